"""The arguments of kohya's scripts: for each the rule that says what becomes of it, and its default."""

from . import kohya_objective as objective
from . import kohya_optimizer as optimizer
from . import kohya_rules as rules
from .everydream_rules import run_name
from .ours import DEBIASED, INPUT_PERTURBATION, METRICS_FILE, MIN_SNR, NOISE_OFFSET, PROGRESS_BAR, ZERO_TERMINAL_SNR
from .outcome import already, became, became_all, by_hand, taken
from .rules import (
    Rules,
    always,
    amount,
    choice,
    if_set,
    lacks,
    natural,
    number,
    of,
    says,
    switch,
    text,
    to,
    whole,
    works,
)

DEFAULTS = {
    "learning_rate": 2e-6, "lr_scheduler": "constant", "max_train_steps": rules.STEPS, "mixed_precision": "no",
    "max_grad_norm": 1.0, "max_data_loader_n_workers": 8, "max_token_length": None, "seed": 0,
    "gradient_accumulation_steps": 1, "loss_type": "l2", "save_precision": "float", "optimizer_type": "AdamW",
}  # fmt: skip
"""What counts where no argument says anything."""
ALWAYS = (
    always("a bar of progress", taken(PROGRESS_BAR)),
    always("numbers of the run as a file", taken(METRICS_FILE)),
)
NO_PREVIEWS = always(
    "no sample images unless asked for",
    became_all({"preview.every_steps": 0, "preview.at_start": False, "preview.at_end": False}),
)
SAVED = {"float": "fp32", "fp16": "fp16", "bf16": "bf16"}

IN_FOLDER = works("a run has one folder, <run.dir>/<run.name>, with all it writes")
NO_UPLOAD = lacks("nothing is uploaded; a plugin on checkpoint.saved can")
NO_WANDB = lacks("there is no plugin for wandb; plugins.tensorboard.TensorBoard writes curves")
ONE_PROCESS = lacks("a run is one process on one device")
NOT_SWAPPED = lacks("modules are not swapped out; cache.offload and gradient_checkpointing save memory")
ATTENTION = works("torch's attention picks what is fastest")
FAMILY = works("the family is read from the model")
WHOLE_PIPELINE = if_set(says(by_hand("name a diffusers folder in model.path, which holds all parts")))
NAMED_THERE = works("the file is read with this one")
IN_METADATA = lacks("a plugin on checkpoint.metadata can write it")
FULL = lacks("weights that are trained stay float32")
RULES: Rules = {
    # model
    "pretrained_model_name_or_path": if_set(rules.model_path),
    "vae": if_set(says(by_hand("put this VAE into the model's folder, as vae"))),
    "v2": FAMILY,
    "v_parameterization": if_set(rules.v_prediction),
    "zero_terminal_snr": switch(taken(ZERO_TERMINAL_SNR)),
    "tokenizer_cache_dir": works("tokenizers come with the model"),
    "clip_l": WHOLE_PIPELINE,
    "clip_g": WHOLE_PIPELINE,
    "t5xxl": WHOLE_PIPELINE,
    "ae": WHOLE_PIPELINE,
    "t5xxl_max_token_length": lacks("as many tokens are read as the model was made for"),
    "apply_t5_attn_mask": lacks("text embeddings are made as the stock pipeline makes them"),
    "clip_skip": if_set(rules.clip_skip),
    "max_token_length": rules.token_length,
    "weighted_captions": lacks("brackets in captions have no weight"),
    "no_token_padding": lacks("captions are padded as the stock pipeline pads them"),
    "disable_mmap_load_safetensors": lacks("files are mapped"),
    # what is trained
    "network_module": if_set(objective.network),
    "network_dim": objective.of_lora("rank", natural),
    "network_alpha": objective.alpha,
    "network_dropout": objective.of_lora("dropout"),
    "network_weights": objective.of_lora("start_from", text),
    "network_args": if_set(objective.network_options),
    "network_train_unet_only": rules.modules,
    "network_train_text_encoder_only": rules.modules,
    "train_text_encoder": rules.modules,
    "stop_text_encoder_training": if_set(rules.stopped_encoder),
    "dim_from_weights": lacks("plugins.lora.Lora is told its rank"),
    "scale_weight_norms": lacks("norms of adapters are not held down"),
    "base_weights": if_set(objective.merged),
    "base_weights_multiplier": of("base_weights", works("base_weights has it")),
    "block_lr": lacks("[[train.parameters]] gives rates by the names of weights; write them by hand"),
    "token_string": if_set(objective.new_word),
    "init_word": if_set(objective.new_word),
    "num_vectors_per_token": if_set(objective.new_word),
    "weights": lacks("new words begin at known ones"),
    "use_object_template": lacks("captions are used as they are"),
    "use_style_template": lacks("captions are used as they are"),
    # how
    "max_train_steps": if_set(rules.most_steps),
    "max_train_epochs": if_set(rules.most_epochs),
    "gradient_accumulation_steps": to("train.accumulate", natural),
    "learning_rate": if_set(optimizer.learning_rate),
    "unet_lr": if_set(optimizer.denoiser_rate),
    "text_encoder_lr": if_set(optimizer.text_rate),
    "learning_rate_te*": if_set(optimizer.text_rate),
    "optimizer_type": if_set(optimizer.optimizer),
    "optimizer_args": if_set(optimizer.options),
    "use_8bit_adam": optimizer.older_optimizer("AdamW8bit"),
    "use_lion_optimizer": optimizer.older_optimizer("Lion"),
    "max_grad_norm": to("train.clip_norm", number),
    "lr_scheduler": if_set(optimizer.schedule),
    "lr_scheduler_type": lacks(
        'train.schedule is none of torch\'s classes; a plugin with @build("schedule") can have another'
    ),
    "lr_scheduler_args": lacks("see lr_scheduler_type"),
    "lr_warmup_steps": if_set(optimizer.warmup),
    "lr_decay_steps": works("lr_scheduler has it"),
    "lr_scheduler_num_cycles": if_set(optimizer.cycles),
    "lr_scheduler_power": if_set(optimizer.power),
    "lr_scheduler_min_lr_ratio": works("lr_scheduler has it"),
    "lr_scheduler_timescale": lacks("no schedule of ours has one"),
    "mixed_precision": if_set(rules.precision),
    "no_half_vae": works("mixed_precision has it"),
    "full_fp16": FULL,
    "full_bf16": FULL,
    "fp8_base*": lacks("model.dtype may be fp32, fp16 or bf16"),
    "gradient_checkpointing": switch(became("train.gradient_checkpointing", True)),
    "fused_backward_pass": switch(became("train.fused_backward", True)),
    "fused_optimizer_groups": lacks("train.fused_backward updates each weight by itself"),
    "blockwise_fused_optimizers": lacks("train.fused_backward updates each weight by itself"),
    "cpu_offload_checkpointing": NOT_SWAPPED,
    "blocks_to_swap": NOT_SWAPPED,
    "double_blocks_to_swap": NOT_SWAPPED,
    "single_blocks_to_swap": NOT_SWAPPED,
    "torch_compile": switch(became("train.compile", True)),
    "dynamo_backend": of("torch_compile", works("torch's own is taken")),
    "xformers": ATTENTION,
    "sdpa": ATTENTION,
    "mem_eff_attn": ATTENTION,
    "diffusers_xformers": ATTENTION,
    "split_attn": ATTENTION,
    "lowram": works("weights are mapped from their files"),
    "highvram": works("nothing is cleared in between"),
    "max_data_loader_n_workers": to("data.workers", whole),
    "persistent_data_loader_workers": works("workers outlive the epoch"),
    "seed": if_set(lambda value, _: became_all({"run.seed": whole(value), "preview.seed": whole(value)})),
    "ddp_*": ONE_PROCESS,
    "deepspeed": ONE_PROCESS,
    "zero_stage": ONE_PROCESS,
    "zero3_*": ONE_PROCESS,
    "offload_*": ONE_PROCESS,
    "fp16_master_weights_and_gradients": ONE_PROCESS,
    # objective
    "loss_type": if_set(objective.loss),
    "huber_c": objective.of_huber("c", number),
    "huber_schedule": objective.of_huber("course", text),
    "huber_scale": lacks("plugins.huber.Huber has no further factor"),
    "min_snr_gamma": amount(MIN_SNR, "gamma", "by the noise schedule that is trained on"),
    "debiased_estimation_loss": switch(taken(DEBIASED)),
    "scale_v_pred_loss_like_noise_pred": lacks(
        "plugins.min_snr.MinSnr and plugins.debiased.Debiased have weights for v"
    ),
    "v_pred_like_loss": lacks("a loss is of one prediction"),
    "prior_loss_weight": if_set(objective.prior_weight),
    "noise_offset": amount(NOISE_OFFSET, "strength"),
    "noise_offset_random_strength": lacks("the strength stays the same"),
    "adaptive_noise_scale": lacks("the strength does not follow the picture"),
    "multires_noise_iterations": if_set(objective.pyramid),
    "multires_noise_discount": of("multires_noise_iterations", works("multires_noise_iterations has it")),
    "ip_noise_gamma": amount(INPUT_PERTURBATION, "strength"),
    "ip_noise_gamma_random_strength": lacks("the strength stays the same"),
    "min_timestep": if_set(objective.timestep_range),
    "max_timestep": if_set(objective.timestep_range),
    "timestep_sampling": if_set(objective.timestep_density),
    "sigmoid_scale": objective.of_timesteps(sigmoid="deviation", shift="deviation"),
    "discrete_flow_shift": objective.of_timesteps(shift="shift", sigma="shift"),
    "training_shift": objective.of_timesteps(shift="shift", sigma="shift"),
    "weighting_scheme": works("timestep_sampling has it"),
    "logit_mean": objective.of_timesteps(sigma="mean"),
    "logit_std": objective.of_timesteps(sigma="deviation"),
    "mode_scale": objective.of_timesteps(sigma="scale"),
    "model_prediction_type": works("the loss is on the model's own output"),
    "guidance_scale": lacks("the family sets the guidance that a distilled model is trained with"),
    "masked_loss": works("conditioning_data_dir or alpha_mask has the masks"),
    # what it writes
    "output_dir": to("run.dir", text),
    "output_name": if_set(run_name),
    "save_precision": choice("export.dtype", SAVED),
    "save_model_as": if_set(rules.format_of_model),
    "use_safetensors": works("nothing is pickled"),
    "save_every_n_steps": rules.every_steps("export.every_steps"),
    "save_every_n_epochs": rules.every_epochs("export.every_steps"),
    "save_n_epoch_ratio": lacks("export.every_steps counts steps"),
    "save_state": rules.states,
    "save_state_on_train_end": works("the last step is always saved"),
    "save_last_n_steps": rules.kept("save_every_n_steps"),
    "save_last_n_steps_state": rules.kept("save_every_n_steps"),
    "save_last_n_epochs": rules.kept("save_every_n_epochs"),
    "save_last_n_epochs_state": rules.kept("save_every_n_epochs"),
    "resume": if_set(says(by_hand("a state of accelerate cannot be gone on with; name the saved model in model.path"))),
    "initial_epoch": lacks("a run goes on where its checkpoint is"),
    "initial_step": lacks("a run goes on where its checkpoint is"),
    "skip_until_initial_step": lacks("a run goes on where its checkpoint is"),
    "no_metadata": lacks("files of weights always have their metadata"),
    "training_comment": IN_METADATA,
    "metadata_*": IN_METADATA,
    "huggingface_*": NO_UPLOAD,
    "save_state_to_huggingface": NO_UPLOAD,
    "resume_from_huggingface": NO_UPLOAD,
    "async_upload": NO_UPLOAD,
    "log_with": if_set(rules.logged),
    "logging_dir": if_set(rules.logging_folder),
    "log_prefix": IN_FOLDER,
    "log_tracker_*": NO_WANDB,
    "wandb_*": NO_WANDB,
    "log_config": works("the resolved config lies in the run's folder"),
    "console_log_level": if_set(
        lambda value, _: (
            became("log.level", text(value).lower()) if text(value) != "CRITICAL" else became("log.level", "error")
        )
    ),
    "console_log_*": works("log.jsonl in the run's folder has all"),
    # previews and validation
    "sample_prompts": if_set(rules.prompts),
    "sample_every_n_steps": rules.every_steps("preview.every_steps", "sample_every_n_epochs"),
    "sample_every_n_epochs": rules.every_epochs("preview.every_steps"),
    "sample_at_first": switch(became("preview.at_start", True)),
    "sample_sampler": if_set(rules.sampler),
    "validate_every_n_steps": rules.every_steps("validation.every_steps"),
    "validate_every_n_epochs": rules.every_epochs("validation.every_steps"),
    "max_validation_steps": lacks("a set is always measured whole"),
    # files
    "config_file": NAMED_THERE,
    "dataset_config": NAMED_THERE,
    "output_config": works("the config is the file that is written"),
}
"""By argument, or glob of several; those about pictures are in kohya_data."""
LAUNCHER = already("is of accelerate launch, which starts run.py in the same way")
