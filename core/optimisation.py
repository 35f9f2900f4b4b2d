"""Parameter groups, the optimizer by its dotted path, and the learning rate as a pure function of the step."""

import importlib
import inspect
import math
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

import torch
from torch import nn

from events.payloads import LearningRateFunction, ParameterGroup

from .config import TrainTable
from .errors import ConfigError


def parameter_groups(
    modules: Mapping[str, nn.Module], trained: Iterable[str], denoiser: str, settings: TrainTable
) -> tuple[ParameterGroup, ...]:
    """One group a trained module, named as the module; parameters by `module.path.to.weight`."""
    text_rate = settings.text_encoder_learning_rate or settings.learning_rate
    return tuple(
        ParameterGroup(
            name=name,
            parameters={f"{name}.{path}": parameter for path, parameter in modules[name].named_parameters() if parameter.requires_grad},
            learning_rate=settings.learning_rate if name == denoiser else text_rate,
            weight_decay=settings.weight_decay,
        )
        for name in trained
    )  # fmt: skip


def make_optimizer(groups: tuple[ParameterGroup, ...], settings: TrainTable) -> torch.optim.Optimizer:
    """The class of `train.optimizer` over the groups; torch's own are fused, which is fastest and can skip on the device.

    Raises ConfigError for a class that cannot be found and for arguments it does not take.
    """
    problems = optimizer_problems(settings)
    if problems:
        raise ConfigError("config", problems)
    kind = _optimizer_class(settings.optimizer)
    takes = inspect.signature(kind).parameters
    options: dict[str, Any] = dict(settings.optimizer_options)
    if "fused" in takes and not {"fused", "foreach"} & set(options):
        options["fused"] = True
    tables = [
        {"name": group.name, "params": list(group.parameters.values()), "lr": group.learning_rate, "weight_decay": group.weight_decay}
        for group in groups
    ]  # fmt: skip
    optimizer: torch.optim.Optimizer = kind(tables, **{name: _as_tuple(value) for name, value in options.items()})
    return optimizer


def optimizer_problems(settings: TrainTable) -> list[str]:
    """What is wrong with `train.optimizer` and its options, in the words of the config."""
    try:
        takes = inspect.signature(_optimizer_class(settings.optimizer)).parameters
    except ConfigError as error:
        return list(error.problems)
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in takes.values()):
        return []
    return [
        f"train.optimizer_options.{name}  is no argument of {settings.optimizer}" + _hint(name, takes)
        for name in settings.optimizer_options
        if name not in takes
    ]


def learning_rate_factor(settings: TrainTable) -> LearningRateFunction:
    """Linear warm-up to 1, then constant until `decay_from` of the steps, then a fall to `final_factor`.

    The argument is the number of steps taken, so the first step has 1 / warmup_steps.
    """
    warmup, last = settings.warmup_steps, settings.steps - 1
    start = max(warmup, round(settings.decay_from * settings.steps))

    def factor(steps_taken: int) -> float:
        if steps_taken < warmup:
            return (steps_taken + 1) / warmup
        if settings.schedule == "constant" or steps_taken <= start or last <= start:
            return 1.0
        share = min(1.0, (steps_taken - start) / (last - start))
        falling = 1 - share if settings.schedule == "linear" else (1 + math.cos(math.pi * share)) / 2
        return settings.final_factor + (1 - settings.final_factor) * falling

    return factor


def can_skip_on_device(optimizer: torch.optim.Optimizer) -> bool:
    """Whether `found_inf` makes the optimizer's kernels leave weights and state alone, without the host waiting."""
    fused = all(group.get("fused") for group in optimizer.param_groups)
    return fused and getattr(optimizer, "_step_supports_amp_scaling", False)


def _optimizer_class(path: str) -> Any:
    module_name, _, name = path.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError("config", [f"train.optimizer  {path}: {error}; is its package installed?"]) from None
    if not hasattr(module, name):
        raise ConfigError("config", [f"train.optimizer  {module_name} has no {name}{_hint(name, dir(module))}"])
    return getattr(module, name)


def _hint(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, list(known), n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
