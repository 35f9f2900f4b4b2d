"""The optimizer: any class by its dotted path, made over the parameter groups."""

import importlib
import inspect
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor

from events.payloads import ParameterGroup

from ..config.tables import TrainTable
from ..errors import ConfigError

SET_ELSEWHERE = {
    "params": "model.train and train.parameters choose them",
    "lr": "set train.learning_rate",
    "weight_decay": "set train.weight_decay",
}
"""Arguments that groups bring along, so that an option would be without effect."""


def make_optimizer(groups: tuple[ParameterGroup, ...], settings: TrainTable) -> torch.optim.Optimizer:
    """The class of `train.optimizer` over the groups; torch's own are fused, which is fastest and can skip on the device.

    Raises ConfigError for a class that cannot be found, for arguments it does not take, and for what it refuses itself.
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
    try:
        optimizer: torch.optim.Optimizer = kind(tables, **{name: _as_tuple(value) for name, value in options.items()})
    except Exception as error:  # each class has its own way of refusing a value
        raise ConfigError("config", [f"train.optimizer  {settings.optimizer} {_refusal(error, options)}"]) from error
    if "d0" in optimizer.defaults and len({group.learning_rate for group in groups}) > 1:
        rates = ", ".join(f"{group.learning_rate:g} ({group.name})" for group in groups)
        raise ConfigError(
            "config", [f"train.optimizer  {settings.optimizer} finds one rate for all; groups have {rates}"]
        )
    return optimizer


def optimizer_problems(settings: TrainTable) -> list[str]:
    """What is wrong with `train.optimizer` and its options, in the words of the config."""
    try:
        takes = inspect.signature(_optimizer_class(settings.optimizer)).parameters
    except ConfigError as error:
        return list(error.problems)
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in takes.values())
    problems = []
    for name in settings.optimizer_options:
        if name in SET_ELSEWHERE:
            problems.append(f"train.optimizer_options.{name}  is not set here; {SET_ELSEWHERE[name]}")
        elif name not in takes and not takes_any:
            problems.append(
                f"train.optimizer_options.{name}  is no argument of {settings.optimizer}{_hint(name, takes)}"
            )
    return problems


def can_skip_on_device(optimizer: torch.optim.Optimizer) -> bool:
    """Whether `found_inf` makes the optimizer's kernels leave weights and state alone, without the host waiting."""
    fused = all(group.get("fused") for group in optimizer.param_groups)
    return fused and getattr(optimizer, "_step_supports_amp_scaling", False)


def lay_out_state(optimizer: torch.optim.Optimizer) -> None:
    """Give state that was stored the memory layout of its weight again, since fused kernels go through both in order."""
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                state[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _optimizer_class(path: str) -> Any:
    module_name, _, name = path.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError("config", [f"train.optimizer  {path}: {error}; is its package installed?"]) from None
    if not hasattr(module, name):
        raise ConfigError("config", [f"train.optimizer  {module_name} has no {name}{_hint(name, dir(module))}"])
    return getattr(module, name)


def _refusal(error: Exception, options: dict[str, Any]) -> str:
    given = ", ".join(f"{name} = {value!r}" for name, value in options.items())
    return f"refuses its options ({given}): {str(error) or type(error).__name__}"


def _hint(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, list(known), n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
