"""What a step does with its losses: gradients, their norm, and weights that move, or stay where a number is not finite."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from events.payloads import ParameterGroup

from ..compute.device import Device
from .fused_backward import FusedBackward
from .gradient_scale import GradientScale
from .optimizer import can_skip_on_device


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an update went, as scalars on the device."""

    norm: Tensor
    """Of all gradients together, before they were scaled down."""
    bad: Tensor
    """Whether loss or norm is not finite, so that the weights are as they were."""
    overflow: Tensor | None = None
    """Whether it was a mere overflow, which a smaller scale of the loss may mend; None where none is scaled."""


class Update(Protocol):
    """Makes one optimizer step out of the losses of its rounds."""

    is_torn: bool
    """Weights may have been written, and the update has not come to its end: between steps they are of none."""

    def begin(self) -> None:
        """Before the first step, once plugins have registered what they hook into modules and optimizer."""

    def round(self, *, is_last: bool) -> AbstractContextManager[None]:
        """Around forward and backward of one batch of the step."""

    def backward(self, loss: Tensor) -> None:
        """The gradients of this rank's share of the step's loss, which are added to those of the rounds before."""

    def finish(self, loss: Tensor) -> Outcome:
        """Clip, move the weights and forget the gradients; `loss` is this rank's of all rounds."""

    def drop_gradients(self) -> None:
        """Forget those of a step that did not come to its end."""

    def state(self) -> dict[str, Any]:
        """What the next update takes from those before it, besides weights and optimizer."""

    def load_state(self, state: Mapping[str, Any]) -> None:
        """As `state` returned it; what is missing stays as it is in any new run."""


class PlainUpdate:
    """All gradients, then one call of the optimizer."""

    def __init__(
        self, device: Device, optimizer: torch.optim.Optimizer, groups: Sequence[ParameterGroup], clip_norm: float
    ) -> None:
        """`clip_norm` 0 does not clip."""
        self.is_torn = False
        self._device = device
        self._optimizer: Any = optimizer
        self._prepared = device.prepare_optimizer(optimizer)
        self._parameters: list[nn.Parameter] = [one for group in groups for one in group.parameters.values()]
        self._clip_norm = clip_norm
        self._skips_on_device = can_skip_on_device(optimizer)
        self._scale = GradientScale(device.device) if device.scales_gradients else None

    def begin(self) -> None:
        """Nothing is registered."""

    def round(self, *, is_last: bool) -> AbstractContextManager[None]:
        return self._device.adding_up(is_last=is_last)

    def backward(self, loss: Tensor) -> None:
        ranks = self._device.ranks
        if ranks.are_several:  # a loss that is scaled is left as large as it is in one process, for the same overflows
            loss = for_all_ranks(loss, ranks.count if self._scale is None else 1)
        self._device.backward(loss if self._scale is None else self._scale.scale(loss))

    def finish(self, loss: Tensor) -> Outcome:
        """Waits for nothing, except that an optimizer which cannot skip on the device is asked once on the host."""
        norm = self._clip()
        bad = ~(loss.isfinite() & norm.isfinite())
        self._move(bad)
        overflow = None if self._scale is None else self._scale.update(loss, bad)
        return Outcome(norm=norm, bad=bad, overflow=overflow)

    def drop_gradients(self) -> None:
        self._prepared.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Any]:
        return {} if self._scale is None else {"gradient_scale": self._scale.state()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """A run that scales gradients only now begins with the scale of any other."""
        if self._scale is not None and "gradient_scale" in state:
            self._scale.load_state(state["gradient_scale"])

    def _clip(self) -> Tensor:
        """The norm of all gradients together, before they are scaled down to `clip_norm`."""
        gradients = [one.grad for one in self._parameters if one.grad is not None]
        if self._device.sharding is not None:
            return self._device.sharding.clip(gradients, self._clip_norm)
        if self._scale is not None:
            self._scale.unscale(gradients, times=self._device.ranks.count)
        norm = torch.nn.utils.get_total_norm(gradients, foreach=True)
        if self._clip_norm:
            torch.nn.utils.clip_grads_with_norm_(self._parameters, self._clip_norm, norm, foreach=True)
        return norm

    def _move(self, bad: Tensor) -> None:
        if self._skips_on_device:
            self._optimizer.found_inf = bad.to(torch.float32)
            self.is_torn = True
            self._prepared.step()
        elif not bool(bad):  # waits for the device: this optimizer's kernels know no `found_inf`
            self.is_torn = True
            self._prepared.step()
        self._prepared.zero_grad(set_to_none=True)


class FusedUpdate:
    """Weights move within the backward pass, one by one; nothing is left to do after it."""

    def __init__(self, device: Device, optimizer: torch.optim.Optimizer, fused: FusedBackward) -> None:
        self.is_torn = False
        self._device = device
        self._prepared = device.prepare_optimizer(optimizer)
        self._fused = fused

    def begin(self) -> None:
        self._fused.attach()

    def round(self, *, is_last: bool) -> AbstractContextManager[None]:
        return self._device.adding_up(is_last=is_last)

    def backward(self, loss: Tensor) -> None:
        self.is_torn = True
        self._fused.begin(loss)
        self._device.backward(loss)

    def finish(self, loss: Tensor) -> Outcome:
        norm = self._fused.norm()
        return Outcome(norm=norm, bad=~(loss.isfinite() & norm.isfinite()))

    def drop_gradients(self) -> None:
        self._prepared.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """There is none."""


def for_all_ranks(loss: Tensor, count: int) -> Tensor:
    """A rank's share of the loss, of which accelerate takes the mean over ranks where the sum is meant.

    One that is not finite spoils the gradients of every rank, also where its own would be finite, so that all of them
    leave the step out. Nothing is sent for it.
    """
    return loss * torch.where(loss.detach().isfinite(), float(count), torch.nan)
