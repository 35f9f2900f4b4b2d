"""The keys of EveryDream2's train.json: for each the rule that says what becomes of it, and its default."""

from . import everydream_rules as rules
from .ours import (
    DROP_CAPTION,
    EMBEDDING_NOISE,
    MASKED_LOSS,
    METRICS_FILE,
    MIN_SNR,
    PROGRESS_BAR,
    PYRAMID_NOISE,
    ZERO_TERMINAL_SNR,
)
from .outcome import UNSET, already, became, became_all, by_hand, taken
from .rules import (
    Rules,
    always,
    amount,
    either,
    flag,
    if_set,
    is_off,
    lacks,
    listed,
    natural,
    of,
    share,
    switch,
    to,
    whole,
    works,
)

DEFAULTS = {
    "batch_size": 2, "cond_dropout": 0.04, "data_root": "input", "disable_amp": False, "flip_p": 0.0, "grad_accum": 1,
    "log_step": 25, "lr_scheduler": "constant", "max_epochs": 300, "no_save_ckpt": False, "project_name": "myproj",
    "resolution": 512, "resume_ckpt": "sd_v1-5_vae.ckpt", "sample_prompts": "sample_prompts.txt", "sample_steps": 250,
    "save_full_precision": False, "seed": 555, "zero_frequency_noise_ratio": 0.02, "disable_textenc_training": False,
    "optimizer_config": "optimizer.json", "auto_decay_steps_multiplier": 1.5, "ema_update_interval": 500,
    "logdir": "logs", "clip_grad_norm": 0,
}  # fmt: skip
"""What counts where train.json leaves a key out."""
LOW_VRAM = {"batch_size": 1, "grad_accum": 1, "gradient_checkpointing": True}
"""What `lowvram` sets whatever else is said."""
ALWAYS = (
    always("sides from 1:4 to 4:1", became("data.max_aspect", 4.0)),
    always("crops a little off the centre", became("data.crop", "jitter")),
    always("short batches are filled with copies", became("data.short_batches", "fill")),
    always("a bar of progress", taken(PROGRESS_BAR)),
    always("numbers of the run as a file", taken(METRICS_FILE)),
)
"""How it works whatever its files say."""
MASKS = became_all({"data.masks": "sidecar"}, {MASKED_LOSS: {}}, "rename them: a mask is called name.mask.png here")
NO_CONTRAST = lacks("no loss of ours compares pictures with wrong captions")
NO_TEACHER = lacks("no second model is trained from")
IN_FOLDER = lacks("a run has one folder, <run.dir>/<run.name>, with all it writes")
RULES: Rules = {
    # model
    "resume_ckpt": if_set(rules.model_path),
    "hf_repo_subfolder": lacks("nothing is downloaded; name the folder in model.path"),
    "disable_textenc_training": rules.trained_modules,
    "disable_unet_training": rules.trained_modules,
    "clip_skip": if_set(rules.clip_skip),
    "tokens_75": switch(became("data.max_tokens", 75)),
    "enable_zero_terminal_snr": switch(taken(ZERO_TERMINAL_SNR, "for models that predict v")),
    "mix_zero_terminal_snr": lacks("a run has one noise schedule"),
    "match_zero_terminal_snr": lacks("a run has one noise schedule"),
    "train_sampler": works("noise is added as the model's own schedule says, which is the same for each of them"),
    "attn_type": works("torch's attention picks what is fastest"),
    "disable_xformers": works("torch's attention picks what is fastest"),
    # data
    "data_root": to("data.root", lambda value: listed(value) if not isinstance(value, str) else value),
    "resolution": if_set(rules.resolutions),
    "flip_p": to("data.flip_p", share),
    "cond_dropout": if_set(lambda value, _: taken(DROP_CAPTION, probability=share(value))),
    "shuffle_tags": rules.shuffled,
    "keep_tags": if_set(rules.kept_tags),
    "rated_dataset": lacks("ratings do not thin out an epoch; multiply.txt says how often a folder is shown"),
    "rated_dataset_target_dropout_percent": of("rated_dataset", lacks("see rated_dataset")),
    "use_masks": switch(MASKS),
    "test_images": works('data.check = "decode" looks at every file'),
    "write_schedule": works("`python run.py data --plan FILE` writes which picture is in which step"),
    "caption_variants": lacks("captions of several lines are variants; plugins.captions.ChooseLine takes one"),
    "all_caption_variants": lacks("one caption is read each time"),
    "cond_dropout_noise_p": lacks("a picture without its caption stays a picture"),
    "batch_id_dropout_p": lacks("pictures of one batch_id always stay together"),
    # training
    "batch_size": to("train.batch_size", natural),
    "grad_accum": to("train.accumulate", natural),
    "forward_slice_size": lacks("a batch goes through the model as one; train.accumulate takes several"),
    "max_backward_slice_size": lacks("a batch goes through the model as one; train.accumulate takes several"),
    "max_epochs": if_set(rules.all_epochs),
    "max_steps": if_set(rules.most_steps),
    "lr": rules.learning_rate,
    "scale_lr": switch(already("lr has been scaled")),
    "lr_scheduler": rules.unless_optimizers("lr_scheduler", rules.schedule),
    "lr_warmup_steps": rules.unless_optimizers("lr_warmup_steps", rules.warmup),
    "lr_decay_steps": lambda value, _: already("lr_scheduler has it") if value and whole(value) else UNSET,
    "auto_decay_steps_multiplier": works("lr_scheduler has it"),
    "optimizer_config": works("the file is read with this one"),
    "useadam8bit": switch(became("train.optimizer", "bitsandbytes.optim.AdamW8bit", "needs pip install bitsandbytes")),
    "clip_grad_norm": rules.clip_norm,
    "amp": works("disable_amp has the say there"),
    "disable_amp": either("train.precision", "fp32", "fp16"),
    "gradient_checkpointing": to("train.gradient_checkpointing", flag),
    "lowvram": switch(already("batch_size, grad_accum and gradient_checkpointing are as it sets them")),
    "gpuid": lambda value, _: UNSET if is_off(value) else by_hand(f"start with CUDA_VISIBLE_DEVICES={whole(value)}"),
    "jacobian_descent": lacks("gradients are added up"),
    "latents_device": lacks("where latents lie follows from train.device; cache.latents keeps them on disk"),
    "lora": rules.adapter,
    "lora_rank": rules.adapter_setting("rank"),
    "lora_alpha": rules.adapter_setting("alpha"),
    "lora_resume": rules.adapter_setting("start_from"),
    # objective
    "loss_type": if_set(rules.loss),
    "min_snr_gamma": amount(MIN_SNR, "gamma", "for v the divisor is SNR + 1 here"),
    "min_snr_alpha": lacks("the weights are not blended"),
    "debug_invert_min_snr_gamma": lacks("the weights are not turned round"),
    "loss_mode_scale": lacks("plugins.timesteps.Timesteps draws timesteps by a density instead"),
    "zero_frequency_noise_ratio": rules.noise_offset,
    "pyramid_noise_discount": amount(PYRAMID_NOISE, "discount"),
    "embedding_perturbation": amount(EMBEDDING_NOISE, "strength"),
    "timestep_start": if_set(rules.timesteps),
    "timestep_end": if_set(rules.timesteps),
    "timestep_curriculum_alpha": lacks("the range of timesteps stays the same in a run"),
    "timestep_initial_*": works("is of timestep_curriculum_alpha alone"),
    "timesteps_multirank_*": lacks(
        "each image draws its timestep by itself; plugins.timesteps.Timesteps has densities"
    ),
    "batch_share_*": lacks("each image of a batch draws its own"),
    "negative_loss_margin": works("losses are never negative here"),
    "contrastive_*": NO_CONTRAST,
    "everything_contrastive_*": NO_CONTRAST,
    "teacher*": NO_TEACHER,
    # averages
    "ema_decay_rate": rules.average,
    "ema_strength_target": rules.average_by_strength,
    "ema_update_interval": rules.average_setting,
    "ema_device": rules.average_setting,
    "ema_sample_ema_model": works("previews show the average whenever there is one"),
    "ema_sample_nonema_model": lacks("previews show the average whenever there is one"),
    "ema_resume_model": lacks("a run begins its average at its own start, and goes on with it from a checkpoint"),
    # what it writes
    "project_name": if_set(rules.run_name),
    "run_name": lacks("a run has one name, run.name"),
    "logdir": if_set(rules.log_folder),
    "log_step": rules.every_batches("log.every_steps"),
    "wandb": rules.wandb,
    "notebook": works("without a terminal the progress is told in lines"),
    "ckpt_every_n_minutes": lacks("checkpoint.every_steps counts steps"),
    "save_every_n_epochs": rules.every_epochs("export.every_steps"),
    "save_ckpts_from_n_epochs": lacks("exports are written from the first interval on"),
    "save_ckpt_dir": IN_FOLDER,
    "save_full_precision": either("export.dtype", "fp32", "fp16"),
    "save_optimizer": works("a checkpoint always holds all that resuming needs, and is apart from exports"),
    "no_save_ckpt": either("export.single_file", False, True),
    "no_prepend_last": works("the export of the last step is named by its step"),
    "load_settings_every_epoch": lacks(
        "a run's settings stay; stop it, change the config, start it again, and it goes on"
    ),
    # previews and validation
    "sample_prompts": if_set(rules.prompts),
    "sample_steps": rules.every_batches("preview.every_steps"),
    "validation_config": lambda value, _: UNSET if value is None else already("the file is read with this one"),
    "no_initial_validation": switch(became("validation.at_start", False)),
    "plugins": if_set(rules.plugin_names),
    "seed": if_set(rules.seeds),
    "config": works("it names this file"),
}
"""By key or glob of train.json."""
