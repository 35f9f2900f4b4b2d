"""What training changes, by name: the tensors of the trained modules, and the state that an optimizer keeps of them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from events.payloads import ParameterGroup

from ..checkpoint.reading import Like
from ..errors import CheckpointError
from ..step.optimizer import lay_out_state


def trained_weights(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """What training may change: every tensor of the trained modules but frozen weights, which come from the model."""
    return {
        f"{name}.{key}": tensor
        for name, module in modules.items()
        for key, tensor in module.state_dict(keep_vars=True).items()
        if tensor.requires_grad or not isinstance(tensor, nn.Parameter)
    }


def is_divided(tensor: Tensor) -> bool:
    """Whether it is divided among processes; asked so that torch's class for that is imported only where there is one."""
    return hasattr(tensor, "device_mesh")


def divided_as(own: Mapping[str, Tensor]) -> Like:
    """What is wanted in part of a checkpoint's tensors: those that stand under the same name here and are divided."""
    divided: dict[str, Any] = {name: tensor for name, tensor in own.items() if is_divided(tensor)}

    def like(name: str, shape: tuple[int, ...]) -> Any:
        tensor = divided.get(name)
        return tensor if tensor is not None and tuple(tensor.shape) == shape else None

    return like


def state_divided_as(groups: Iterable[ParameterGroup], root: str) -> Like:
    """Likewise of an optimizer's state, stored as `root/state/<parameter>/<key>`, by the parameters that it is of."""
    like = divided_as({name: one for group in groups for name, one in group.parameters.items()})

    def of_state(name: str, shape: tuple[int, ...]) -> Any:
        start, _, rest = name.partition("/state/")
        return like(rest.partition("/")[0], shape) if start == root else None

    return of_state


def expected_bytes(
    weights: Mapping[str, Tensor], optimizer: torch.optim.Optimizer, groups: Iterable[ParameterGroup]
) -> int:
    """About what a checkpoint takes: weights, and the optimizer's moments even where there are none yet."""
    held = [value for entries in optimizer.state.values() for value in entries.values()]
    moments = sum(value.nbytes for value in held if isinstance(value, Tensor))
    if not held and "betas" in optimizer.defaults:
        kind = type(getattr(optimizer, "divided", optimizer))
        count = 2 if "adam" in kind.__name__.lower() else 1
        moments = count * sum(tensor.nbytes for group in groups for tensor in group.parameters.values())
    return sum(tensor.nbytes for tensor in weights.values()) + moments


def require_same_weights(own: Mapping[str, Tensor], stored: Mapping[str, Tensor], path: Path) -> None:
    """Raises CheckpointError where the names or shapes of a checkpoint's weights are others than those of the model."""
    strange = sorted(own.keys() ^ stored.keys())
    said = f"{len(strange)} tensors differ, such as {strange[0]}" if strange else ""
    for name in own.keys() & stored.keys() if not strange else ():
        if own[name].shape != stored[name].shape:
            said = f"{name} has the shape {tuple(own[name].shape)} and had {tuple(stored[name].shape)}"
            break
    if said:
        raise CheckpointError(
            f"{path} is of another model, or other weights are trained now than then (train.parameters,"
            f" or a plugin): {said}; set it back, or use --fresh to start anew"
        )


def load_optimizer(
    optimizer: torch.optim.Optimizer,
    groups: Sequence[ParameterGroup],
    saved: Mapping[str, Any],
    options: Collection[str],
) -> None:
    """Put the state back, which is stored by parameter name; what the config says of the groups stands over what was stored.

    `options` are the names of its arguments that the config gives.
    """
    now, names = optimizer.state_dict(), [name for group in groups for name in group.parameters]
    state = {number: saved["state"][name] for number, name in enumerate(names) if name in saved["state"]}
    settled = {"params", "weight_decay", "name", *options}
    stored = {table["name"]: table for table in saved["groups"]}
    tables = [
        table | {key: value for key, value in old.items() if key not in settled and key in table}
        for table in now["param_groups"]
        for old in (stored.get(table["name"], saved["groups"][0]),)  # groups may be cut otherwise now
    ]
    for table, before in zip(tables, now["param_groups"], strict=True):
        for key, value in before.items():
            if isinstance(value, tuple):
                table[key] = tuple(table[key])
    optimizer.load_state_dict({"state": state, "param_groups": tables})
    lay_out_state(optimizer)
