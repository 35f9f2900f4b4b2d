"""Rules for the arguments of kohya's scripts that are about the optimizer and its rates."""

import ast
from typing import Any

from .kohya_rules import total_steps
from .ours import OPTIMIZERS, optimizer_remark
from .outcome import OFF, UNSET, Outcome, already, became, became_all, lacking
from .rules import Facts, Rule, WrongValue, flag, is_off, listed, natural, number, text


def optimizer(value: Any, facts: Facts) -> Outcome:
    name = text(value)
    known = OPTIMIZERS.get(name.lower())
    if not name:
        return UNSET
    path = known or (name if "." in name else f"torch.optim.{name}")
    if name.lower().startswith("sgdnesterov"):
        keys = {"train.optimizer": path, "train.optimizer_options": {"nesterov": True, "momentum": 0.9}}
        return became_all(keys, remark=optimizer_remark(path))
    return became("train.optimizer", path, optimizer_remark(path))


def older_optimizer(name: str) -> Rule:
    """A switch of before `optimizer_type`."""
    return lambda value, facts: optimizer(name, facts) if value is not None and flag(value) else OFF


def options(value: Any, facts: Facts) -> Outcome:
    """name=value, as Python writes values; the weight decay has a key of its own."""
    found: dict[str, Any] = {}
    for part in listed(value):
        name, equals, written = text(part).partition("=")
        if not equals:
            raise WrongValue("name=value, such as weight_decay=0.01", part)
        found[name.strip()] = read_literal(written)
    keys: dict[str, Any] = {}
    if "weight_decay" in found:
        keys["train.weight_decay"] = number(found.pop("weight_decay"))
    if found:
        keys["train.optimizer_options"] = found
    return became_all(keys) if keys else OFF


def read_literal(written: str) -> Any:
    try:
        value = ast.literal_eval(written.strip())
    except (ValueError, SyntaxError):
        return written.strip()
    return list(value) if isinstance(value, tuple) else value


def text_rate(value: Any, facts: Facts) -> Outcome:
    rates = [number(rate) for rate in listed(value)]
    if not rates:
        return UNSET
    if not rates[0]:
        return lacking("leave the text encoders out of model.train")
    remark = "one rate for all text encoders; [[train.parameters]] tells them apart" if len(set(rates)) > 1 else ""
    return became("train.text_encoder_learning_rate", rates[0], remark)


def denoiser_rate(value: Any, facts: Facts) -> Outcome:
    return became("train.learning_rate", number(value))


def learning_rate(value: Any, facts: Facts) -> Outcome:
    """Of a network, the rate of whatever has none of its own."""
    rate = number(value)
    if is_off(facts["unet_lr"]):
        return became("train.learning_rate", rate)
    if facts["text_encoder_lr"] is None:
        return became("train.text_encoder_learning_rate", rate, "unet_lr is that of the UNet")
    return already("unet_lr and text_encoder_lr have the say")


SCHEDULES: dict[str, tuple[dict[str, Any], str]] = {
    "constant": ({"train.schedule": "constant"}, ""),
    "constant_with_warmup": ({"train.schedule": "constant"}, ""),
    "linear": ({"train.schedule": "linear"}, ""),
    "cosine": ({"train.schedule": "cosine"}, ""),
    "cosine_with_restarts": ({"train.schedule": "cosine"}, "lr_scheduler_num_cycles says how often it falls"),
    "polynomial": ({"train.schedule": "polynomial"}, ""),
}
"""Keys and remark by the name of their schedule."""


def schedule(value: Any, facts: Facts) -> Outcome:
    name = text(value)
    if name == "cosine_with_min_lr":
        share = number(facts["lr_scheduler_min_lr_ratio"] or 0)
        return became_all({"train.schedule": "cosine", "train.final_factor": share})
    if name == "warmup_stable_decay":
        share = number(facts["lr_scheduler_min_lr_ratio"] or 0)
        start = round(max(0.0, 1 - _in_steps(facts["lr_decay_steps"], facts) / total_steps(facts)[0]), 6)
        return became_all({"train.schedule": "linear", "train.decay_from": start, "train.final_factor": share})
    if name not in SCHEDULES:
        return lacking("train.schedule may be constant, linear, cosine or polynomial; a plugin can have another")
    keys, remark = SCHEDULES[name]
    return became_all(keys, remark=remark)


def _in_steps(value: Any, facts: Facts) -> float:
    """A number below 1 is a share of all steps."""
    found = number(value or 0)
    return found * total_steps(facts)[0] if 0 < found < 1 else found


def warmup(value: Any, facts: Facts) -> Outcome:
    steps = round(_in_steps(value, facts))
    if facts["lr_scheduler"] in ("constant", None):
        return already("a constant rate has no warm-up there") if steps else OFF
    return became("train.warmup_steps", steps)


def cycles(value: Any, facts: Facts) -> Outcome:
    if facts["lr_scheduler"] != "cosine_with_restarts":
        return already("lr_scheduler is none with restarts there")
    return became("train.cycles", natural(value))


def power(value: Any, facts: Facts) -> Outcome:
    return became("train.power", number(value)) if facts["lr_scheduler"] == "polynomial" else OFF
