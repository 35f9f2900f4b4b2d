"""Rules for the keys of EveryDream2's train.json that are more than another name."""

import math
import re
from typing import Any

from .ours import EMA, HUBER, LORA, NOISE_OFFSET, SHUFFLE_TAGS, TENSORBOARD, TEXTUAL_INVERSION, TIMESTEPS
from .outcome import OFF, UNSET, Outcome, already, became, became_all, by_hand, lacking, taken
from .rules import Facts, Rule, flag, if_set, is_off, listed, natural, number, steps_of, text, whole

TIMESTEPS_IN_ALL = 1000
BASE_RATE = 1e-6
"""Where neither train.json nor the optimizer's file says anything."""


def accumulation(facts: Facts) -> int:
    return natural(facts["grad_accum"] or 1)


def epochs_in_all(facts: Facts) -> float:
    return number(facts["max_epochs"] or 300)


def every_epochs(key: str) -> Any:
    """An interval in epochs; ours are in steps."""

    def convert(value: Any, facts: Facts) -> Outcome:
        if is_off(value):
            return OFF
        steps, remark = steps_of(number(value), facts, epochs_in_all(facts), accumulation(facts))
        return became(key, steps, remark)

    return convert


def every_batches(key: str) -> Any:
    """An interval in batches, as it counts steps; ours are of the optimizer."""

    def convert(value: Any, facts: Facts) -> Outcome:
        accumulate = accumulation(facts)
        if whole(value) <= 0:
            return became(key, 0) if key == "preview.every_steps" else OFF
        remark = f"in steps of {accumulate} batches" if accumulate > 1 else ""
        return became(key, max(1, round(whole(value) / accumulate)), remark)

    return if_set(convert)


def total_steps(facts: Facts) -> tuple[int, str]:
    """Optimizer steps of the whole run, and what is to be said of them."""
    steps, remark = steps_of(epochs_in_all(facts), facts, epochs_in_all(facts), accumulation(facts))
    most = facts["max_steps"]
    if most is None or (facts.epoch_batches is not None and steps * accumulation(facts) <= whole(most)):
        return steps, remark
    return max(1, math.ceil(whole(most) / accumulation(facts))), "of max_steps"


def all_epochs(value: Any, facts: Facts) -> Outcome:
    number(value)
    return became("train.steps", *total_steps(facts))


def most_steps(value: Any, facts: Facts) -> Outcome:
    steps, remark = total_steps(facts)
    return became("train.steps", steps, "" if remark == "of max_steps" else "max_epochs ends the run before")


def run_name(value: Any, facts: Facts) -> Outcome:
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", text(value)).strip("-")[:64] or "run"
    return became("run.name", name, "" if name == value else "letters, digits, dots and dashes only")


def seeds(value: Any, facts: Facts) -> Outcome:
    if whole(value) < 0:
        return became_all(
            {"run.seed": 0, "preview.seed": 0}, remark="there it is drawn anew; a run always has one here"
        )
    return became_all({"run.seed": whole(value), "preview.seed": whole(value)})


def learning_rate(value: Any, facts: Facts) -> Outcome:
    if value is None:
        return already("is not set there, so that of the optimizer's file counts")
    rate = number(value)
    if not facts.is_on("scale_lr"):
        return became("train.learning_rate", rate)
    images = natural(facts["batch_size"]) * accumulation(facts)
    return became(
        "train.learning_rate", float(f"{rate * images**0.55:.6g}"), f"scaled by {images}^0.55, as scale_lr does"
    )


def trained_modules(value: Any, facts: Facts) -> Outcome:
    flag(value if value is not None else False)
    switches = {"unet": "disable_unet_training", "text_encoder": "disable_textenc_training"}
    modules = [name for name, key in switches.items() if not facts.is_on(key)]
    return became("model.train", modules) if modules else lacking("something has to be trained")


def model_path(value: Any, facts: Facts) -> Outcome:
    path = text(value)
    keys = {"model.path": path}
    if path == "findlast":
        return by_hand(
            "name the model itself in model.path; a run of ours that is not finished goes on by itself", keys
        )
    if path.lower().endswith((".ckpt", ".pt", ".bin")):
        return by_hand(f"convert {path} to .safetensors or a diffusers folder; pickled files are not opened", keys)
    return became_all(keys)


def resolutions(value: Any, facts: Facts) -> Outcome:
    sides = [natural(side) for side in listed(value)]
    return became("data.resolution", sides[0] if len(sides) == 1 else sides)


def clip_skip(value: Any, facts: Facts) -> Outcome:
    if whole(value) <= 1:
        return already("the last layer of the text encoder is read")
    return lacking("the text encoder is read at its last layer, as its own config says")


def of_schedule(key: str, facts: Facts) -> Any:
    """A setting of the schedule, in which the optimizer's file has the say."""
    return facts[f"optimizer.base.{key}"] or facts[key]


def schedule(value: Any, facts: Facts) -> Outcome:
    """The course over `lr_decay_steps`, which by default are more than the run has."""
    name = text(value)
    if name == "constant":
        return became("train.schedule", name)
    if name not in ("linear", "cosine", "polynomial"):
        return lacking("train.schedule may be constant, linear, cosine or polynomial")
    decay = of_schedule("lr_decay_steps", facts)
    steps = total_steps(facts)[0]
    length = whole(decay) / accumulation(facts) if decay else steps * number(facts["auto_decay_steps_multiplier"])
    share = min(1.0, steps / length)
    final = (1 + math.cos(math.pi * share)) / 2 if name == "cosine" else 1 - share
    keys = {"train.schedule": name, "train.final_factor": round(final, 6)}
    if of_schedule("lr_warmup_steps", facts) is None:
        keys["train.warmup_steps"] = round(length / 50)
    return became_all(keys, remark=f"as it ends after {steps} of {length:g} steps of the course")


def warmup(value: Any, facts: Facts) -> Outcome:
    steps = max(0, round(whole(value) / accumulation(facts)))
    if of_schedule("lr_scheduler", facts) == "constant":
        return already("a constant rate has no warm-up there")
    return became("train.warmup_steps", steps)


def unless_optimizers(key: str, rule: Rule) -> Rule:
    """Of train.json, where the optimizer's file says nothing."""

    def convert(value: Any, facts: Facts) -> Outcome:
        overruled = facts[f"optimizer.base.{key}"]
        return (
            already("the optimizer's file has the say") if overruled else UNSET if value is None else rule(value, facts)
        )

    return convert


def shuffled(value: Any, facts: Facts) -> Outcome:
    return (
        taken(SHUFFLE_TAGS, always=True, keep=whole(facts["keep_tags"] or 0))
        if value is not None and flag(value)
        else OFF
    )


def kept_tags(value: Any, facts: Facts) -> Outcome:
    if not facts.is_on("shuffle_tags"):
        whole(value)
        return already("shuffle_tags is off there")
    return taken(SHUFFLE_TAGS, keep=whole(value))


def noise_offset(value: Any, facts: Facts) -> Outcome:
    return taken(NOISE_OFFSET, strength=number(value)) if value is not None and number(value) > 0 else OFF


def timesteps(value: Any, facts: Facts) -> Outcome:
    low, high = whole(facts["timestep_start"] or 0), whole(facts["timestep_end"] or TIMESTEPS_IN_ALL)
    whole(value)
    if (low, high) == (0, TIMESTEPS_IN_ALL):
        return already("all timesteps are trained")
    return taken(TIMESTEPS, low=low / TIMESTEPS_IN_ALL, high=high / TIMESTEPS_IN_ALL)


def average(value: Any, facts: Facts) -> Outcome:
    """The decay, in which a target for the whole run has the say."""
    if is_off(value):
        return OFF
    number(value)
    if not is_off(facts["ema_strength_target"]):
        return already("ema_strength_target has the say")
    return taken(EMA, **_average_settings(facts), decay=number(value))


def average_by_strength(value: Any, facts: Facts) -> Outcome:
    """The decay of which this share of the first weights is left at the end."""
    if is_off(value):
        return OFF
    settings = _average_settings(facts)
    steps, remark = total_steps(facts)
    decay = number(value) ** (settings["every_steps"] / steps)
    return taken(EMA, remark, **settings, decay=round(decay, 9))


def average_setting(value: Any, facts: Facts) -> Outcome:
    """Of an average, where there is one."""
    if is_off(facts["ema_decay_rate"]) and is_off(facts["ema_strength_target"]):
        return already("there is no average")
    return taken(EMA, **_average_settings(facts))


def _average_settings(facts: Facts) -> dict[str, Any]:
    device = text(facts["ema_device"] or "cpu")
    return {"every_steps": natural(facts["ema_update_interval"] or 1), "device": "same" if device == "cuda" else "cpu"}


def loss(value: Any, facts: Facts) -> Outcome:
    kind = text(value)
    if kind == "mse":
        return already("the squared error is minimised")
    if kind == "huber":
        return taken(HUBER, "the nearest: pseudo-Huber", c=1.0, course="constant")
    return lacking("the squared error is minimised; plugins.huber.Huber has a threshold that follows the timestep")


def plugin_names(value: Any, facts: Facts) -> Outcome:
    names = [text(name) for name in listed(value)]
    if not names:
        return OFF
    known = {"plugins.textual_inversion": TEXTUAL_INVERSION}
    told = [f"{name} is {known[name]}" for name in names if name in known]
    if others := [name for name in names if name not in known]:
        told.append(f"to be looked at: {', '.join(others)}")
    return by_hand(
        f"add a [[plugins]] table for each ({'; '.join(told)}); class-style plugins run, see docs/class-style-plugins.md"
    )


def adapter(value: Any, facts: Facts) -> Outcome:
    if value is None or not flag(value):
        return OFF
    settings = {"rank": natural(facts["lora_rank"] or 16), "alpha": number(facts["lora_alpha"] or 8)}
    return became_all({"export.model": False}, {LORA: settings})


def adapter_setting(name: str) -> Any:
    def convert(value: Any, facts: Facts) -> Outcome:
        return taken(LORA, **{name: value if name == "start_from" else number(value)}) if facts.is_on("lora") else OFF

    return if_set(convert)


def prompts(value: Any, facts: Facts) -> Outcome:
    path = text(value)
    if path.lower().endswith(".json"):
        return already("the file is read with this one, and its samples are written as a file of prompts")
    return became("preview.prompts", path)


def clip_norm(value: Any, facts: Facts) -> Outcome:
    norm = 0.0 if value is None else number(value)
    return became("train.clip_norm", norm, "" if norm else "which does not clip")


def log_folder(value: Any, facts: Facts) -> Outcome:
    keys = {"run.dir": text(value)}
    return became_all(keys, {TENSORBOARD: {}}, "curves lie there too, which needs pip install tensorboard")


def wandb(value: Any, facts: Facts) -> Outcome:
    return (
        lacking("there is no plugin for it; plugins.tensorboard.TensorBoard writes curves")
        if not is_off(value)
        else OFF
    )
