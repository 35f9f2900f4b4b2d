"""The files that EveryDream2's train.json names: the optimizer's, the validation's, and sample prompts in JSON."""

from collections.abc import Mapping
from typing import Any

from .everydream_rules import BASE_RATE, every_batches, every_epochs, schedule, warmup
from .ours import LAST_LAYERS, OPTIMIZERS, optimizer_remark
from .outcome import OFF, UNSET, Outcome, already, became, by_hand, lacking, taken
from .rules import (
    Facts,
    Rule,
    Rules,
    choice,
    flag,
    if_set,
    is_off,
    lacks,
    listed,
    natural,
    number,
    switch,
    table,
    text,
    to,
    whole,
    works,
)

UNET_PARTS = {
    "freeze_in": ("unet.conv_in.*", "unet.time_embedding.*", "unet.down_blocks.*"),
    "freeze_mid": ("unet.mid_block.*",),
    "freeze_out": ("unet.up_blocks.*", "unet.conv_norm_out.*", "unet.conv_out.*"),
}


def _optimizer(value: Any, facts: Facts) -> Outcome:
    name = text(value).lower().replace("_", "")
    if name not in OPTIMIZERS:
        return lacking(
            "not a name of ours; train.optimizer takes the path of a class, and is left at torch.optim.AdamW"
        )
    return became("train.optimizer", OPTIMIZERS[name], optimizer_remark(OPTIMIZERS[name]))


def _base_rate(value: Any, facts: Facts) -> Outcome:
    if facts["lr"] is not None:
        return already("lr of train.json has the say")
    return became("train.learning_rate", BASE_RATE if value is None else number(value))


def _option(name: str, read: Any, only: str = "") -> Any:
    """An argument of the optimizer; some know only some."""

    def convert(value: Any, facts: Facts) -> Outcome:
        optimizer = str(facts["optimizer.base.optimizer"] or "adamw8bit")
        if not optimizer.startswith(only) or (name == "eps" and "lion" in optimizer):
            return already(f"{optimizer} does not read it")
        return became("train.optimizer_options", {name: read(value)})

    return if_set(convert)


def _betas(value: Any) -> list[float]:
    return [number(one) for one in listed(value)]


def _text_rate(value: Any, facts: Facts) -> Outcome:
    if value is None:
        return UNSET
    rate = number(value)
    return (
        became("train.text_encoder_learning_rate", rate) if rate else lacking("leave text_encoder out of model.train")
    )


def _text_scale(value: Any, facts: Facts) -> Outcome:
    """A factor on the rate of the UNet, where the text encoder has none of its own."""
    own = facts["optimizer.text_encoder_overrides.lr"]
    if is_off(value) or own is not None:
        return already("text_encoder_overrides.lr has the say") if own is not None else UNSET
    base = facts["lr"] if facts["lr"] is not None else facts["optimizer.base.lr"]
    rate = number(BASE_RATE if base is None else base)
    return became("train.text_encoder_learning_rate", float(f"{rate * number(value):.6g}"))


def _of_text_encoder(rule: Rule) -> Rule:
    """Of no matter where it is not trained."""

    def convert(value: Any, facts: Facts) -> Outcome:
        if facts.is_on("disable_textenc_training"):
            return already("the text encoder is not trained")
        return rule(value, facts)

    return convert


def _front_layers(value: Any, facts: Facts) -> Outcome:
    count = whole(value)
    if count < 0:
        return _last_layers(-count, facts)
    frozen = [{"match": f"text_encoder.*encoder.layers.{layer}.*", "freeze": True} for layer in range(count)]
    return became("train.parameters", frozen) if frozen else OFF


def _last_layers(value: Any, facts: Facts) -> Outcome:
    """The embeddings are frozen with the first layers."""
    if is_off(value):
        return OFF
    norm = not facts.is_on("optimizer.text_encoder_freezing.freeze_final_layer_norm")
    return taken(LAST_LAYERS, "and no embeddings", module="text_encoder", layers=natural(value), norm=norm)


def _frozen(*globs: str) -> Outcome:
    return became("train.parameters", [{"match": glob, "freeze": True} for glob in globs])


def _text_decay(value: Any, facts: Facts) -> Outcome:
    return became("train.parameters", [{"match": "text_encoder.*", "weight_decay": number(value)}])


def _same(value: Any, facts: Facts) -> Outcome:
    return lacking("one optimizer trains all modules, with the settings of base")


TABLES = ("base", "text_encoder_overrides", "text_encoder_freezing", "unet_freezing", "unet_component_lr")
"""Inner tables of optimizer.json."""
OPTIMIZER_RULES: Rules = {
    **{name: if_set(lambda value, _: already("holds nothing") if not table(value) else UNSET) for name in TABLES},
    "doc*": works("it explains the file"),
    "base.optimizer": if_set(_optimizer),
    "base.lr": _base_rate,
    "base.betas": _option("betas", _betas),
    "base.epsilon": _option("eps", number),
    "base.weight_decay": to("train.weight_decay", number),
    "base.d0": _option("d0", number, "dadapt"),
    "base.decouple": _option("decouple", flag, "dadapt_adam"),
    "base.momentum": _option("momentum", number, "dadapt_sgd"),
    "base.lr_scheduler": if_set(schedule),
    "base.lr_decay_steps": lambda value, _: already("lr_scheduler has it") if value and whole(value) else UNSET,
    "base.lr_warmup_steps": if_set(warmup),
    "text_encoder_overrides.lr": _of_text_encoder(_text_rate),
    "text_encoder_overrides.weight_decay": _of_text_encoder(if_set(_text_decay)),
    "text_encoder_overrides.*": if_set(_same),
    "text_encoder_lr_scale": _of_text_encoder(_text_scale),
    "text_encoder_freezing.freeze_embeddings": _of_text_encoder(switch(_frozen("text_encoder.*embeddings.*"))),
    "text_encoder_freezing.freeze_final_layer_norm": _of_text_encoder(
        switch(_frozen("text_encoder.*final_layer_norm.*"))
    ),
    "text_encoder_freezing.freeze_front_n_layers": _of_text_encoder(if_set(_front_layers)),
    "text_encoder_freezing.unfreeze_last_n_layers": _of_text_encoder(_last_layers),
    **{f"unet_freezing.{key}": switch(_frozen(*globs)) for key, globs in UNET_PARTS.items()},
    "unet_component_lr.*": lacks("[[train.parameters]] gives rates by the names of weights; write them by hand"),
    "apply_grad_scaler_step_tweaks": works("the scaler of fp16 grows at its own pace"),
    "use_grad_scaler": works('train.precision = "fp16" scales gradients, the others do not'),
    "log_grad_norm": works("every report has grad_norm"),
}
"""By key of optimizer.json, those of inner tables with the table's name before them."""


def _validates(facts: Facts) -> bool:
    return facts.is_on("validation.validate_training")


def _is_manual(facts: Facts) -> bool:
    return bool(facts["validation.val_split_mode"] == "manual")


def _split(value: Any, facts: Facts) -> Outcome:
    share = number(value)
    if not _validates(facts) or _is_manual(facts):
        return already("nothing is held out there")
    return became("validation.fraction", share)


def _manual(value: Any, facts: Facts) -> Outcome:
    path = text(value)
    if not _validates(facts) or not _is_manual(facts):
        return already("val_split_mode is not manual there")
    return became("validation.sets", {"validation": path})


def _further_sets(value: Any, facts: Facts) -> Outcome:
    """Named folders, each a set of its own."""
    if not isinstance(value, Mapping):
        return by_hand("write each folder into validation.sets")
    return became("validation.sets", {name: text(path) for name, path in value.items()}) if value else OFF


def _every_epochs(value: Any, facts: Facts) -> Outcome:
    return every_epochs("validation.every_steps")(value, facts) if _validates(facts) else OFF


VALIDATION_RULES: Rules = {
    "documentation*": works("it explains the file"),
    "validate_training": switch(already("a set to validate on is all it takes")),
    "val_split_mode": if_set(
        lambda value, _: already("validation.fraction or validation.sets says it") if text(value) else OFF
    ),
    "val_split_proportion": if_set(_split),
    "val_data_root": if_set(_manual),
    "extra_manual_datasets": if_set(_further_sets),
    "every_n_epochs": if_set(_every_epochs),
    "stabilize_training_loss": lacks("put some training pictures into a set of validation.sets' own for that"),
    "stabilize_split_proportion": lambda value, facts: (
        lacking("see stabilize_training_loss") if facts.is_on("validation.stabilize_training_loss") else OFF
    ),
    "seed": works("each picture always has the same noise and timestep, which follow from run.seed"),
    "use_relative_loss": lacks("losses are written as they are"),
}
"""By key of the validation's file."""

OPTIMIZER_DEFAULTS = {"base.optimizer": "adamw8bit", "base.lr": BASE_RATE, "base.weight_decay": 0.01}
PROMPT_DEFAULTS = {"cfgs": [7, 4, 1.01], "scheduler": "ddim", "num_inference_steps": 30}
VALIDATION_DEFAULTS = {
    "validate_training": True, "val_split_mode": "automatic", "val_split_proportion": 0.15, "every_n_epochs": 1,
}  # fmt: skip
"""What counts where a file leaves a key out, that of the validation where there is one."""
SCHEDULERS = {
    "ddim": "DDIMScheduler", "pndm": "PNDMScheduler", "ddpm": "DDPMScheduler", "lms": "LMSDiscreteScheduler",
    "euler": "EulerDiscreteScheduler", "euler_a": "EulerAncestralDiscreteScheduler",
    "kdpm2": "KDPM2AncestralDiscreteScheduler", "dpm++": "DPMSolverMultistepScheduler",
    "dpm++_2m": "DPMSolverMultistepScheduler", "dpm++_2s": "DPMSolverSinglestepScheduler",
}  # fmt: skip


def _scales(value: Any, facts: Facts) -> Outcome:
    scales = [number(scale) for scale in listed(value)]
    return became("preview.guidance", scales[0] if len(scales) == 1 else scales)


def _prompt_seed(value: Any, facts: Facts) -> Outcome:
    return became("preview.seed", whole(value)) if whole(value) >= 0 else lacking("a seed is never drawn anew here")


PROMPT_RULES: Rules = {
    "batch_size": to("preview.batch_size", natural),
    "seed": if_set(_prompt_seed),
    "cfgs": if_set(_scales),
    "scheduler": choice("preview.scheduler", SCHEDULERS),
    "num_inference_steps": to("preview.steps", natural),
    "show_progress_bars": works("previews show no bar"),
    "resolution": lacks("a prompt is rendered at data.resolution unless it has a size of its own"),
    "samples": works("they are written as a file of prompts beside the config"),
    "generate_samples_every_n_steps": every_batches("preview.every_steps"),
    "generate_pretrain_samples": lambda value, _: became("preview.at_start", value is not None and flag(value)),
    "append_invocations": lacks("prompts are rendered as they are written"),
}
"""By key of sample_prompts.json."""
