"""Fused backward: each weight is updated as soon as its gradient is known, and the gradient is given back at once.

One parameter's gradient is alive at a time, where the ordinary step holds one of each. What needs all gradients
together, before the first weight moves, cannot be had with it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..config.tables import TrainTable
from ..errors import ConfigError
from .optimizer import can_skip_on_device

KEY = "train.fused_backward"


class FusedBackward:
    """Steps the optimizer on one parameter at a time, from within the backward pass."""

    def __init__(self, optimizer: torch.optim.Optimizer, settings: TrainTable, *, processes: int = 1) -> None:
        """Raises ConfigError for settings and optimizers that it does not go together with."""
        problems = fused_backward_problems(settings, processes=processes)
        if not problems and not can_skip_on_device(optimizer):
            problems.append(
                f"{KEY}  needs an optimizer that can skip on the device, which {settings.optimizer} cannot as it is set;"
                " use a fused one of torch.optim, such as torch.optim.AdamW"
            )
        if problems:
            raise ConfigError("config", problems)
        self._optimizer: Any = optimizer
        self._spoilt = torch.zeros((), dtype=torch.bool)
        self._squares = torch.zeros(())

    def attach(self) -> None:
        """Register with every parameter, once all is composed. Raises ConfigError when the optimizer has hooks."""
        hooks = [*self._optimizer._optimizer_step_pre_hooks.values()]  # torch has no public way to ask for them
        hooks += self._optimizer._optimizer_step_post_hooks.values()
        if hooks:
            raise ConfigError("config", [hook_problem(hooks[0])])
        for number, table in enumerate(self._optimizer.param_groups):
            for parameter in table["params"]:
                parameter.register_post_accumulate_grad_hook(partial(self._update, number))

    def begin(self, loss: Tensor) -> None:
        """Before the backward pass of this loss: none of its gradients counts when it is not finite."""
        self._spoilt = ~loss.detach().isfinite()
        self._squares = torch.zeros_like(self._squares, device=loss.device)

    def norm(self) -> Tensor:
        """Of all gradients together, after the backward pass; not finite when one of them was not."""
        return self._squares.sqrt()

    def _update(self, number: int, parameter: nn.Parameter) -> None:
        """A parameter of the group of that number. When its own gradient is not finite it stays as it is.

        The group is looked up each time, since loading a state puts others in their place.
        """
        assert parameter.grad is not None
        square = parameter.grad.float().square().sum()
        self._squares += square
        self._optimizer.found_inf = (self._spoilt | ~square.isfinite()).to(torch.float32)
        tables = self._optimizer.param_groups
        table = tables[number]
        parameters = table["params"]
        self._optimizer.param_groups, table["params"] = [table], [parameter]
        try:
            self._optimizer.step()
        finally:
            self._optimizer.param_groups, table["params"] = tables, parameters
        parameter.grad = None


def fused_backward_problems(settings: TrainTable, *, processes: int = 1) -> list[str]:
    """Settings that fused backward does not go together with."""
    if not settings.fused_backward:
        return []
    problems = []
    if settings.accumulate > 1:
        problems.append(
            f"{KEY}  and train.accumulate = {settings.accumulate} exclude each other: gradients are not kept to add to;"
            " set train.accumulate = 1, or fused_backward = false"
        )
    if settings.clip_norm:
        problems.append(
            f"{KEY}  and train.clip_norm = {settings.clip_norm:g} exclude each other: the norm is known only after the"
            " last update; set train.clip_norm = 0, or fused_backward = false"
        )
    if settings.precision == "fp16":
        problems.append(
            f"{KEY}  and train.precision = 'fp16' exclude each other: an overflow is known only after the first update;"
            " set train.precision = 'bf16', or fused_backward = false"
        )
    if processes > 1:
        problems.append(f"{KEY}  updates weights before {processes} processes have shared their gradients; use one")
    return problems


def hook_owner(hook: Callable[..., Any]) -> str:
    """The module that it comes from."""
    return str(getattr(hook, "__module__", None) or type(hook).__module__)


def hook_problem(hook: Callable[..., Any]) -> str:
    return (
        f"{KEY}  and hooks on the optimizer, here one of {hook_owner(hook)}, exclude each other: they would be called for every"
        " parameter; leave that plugin out, or set fused_backward = false"
    )
