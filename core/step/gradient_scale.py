"""The factor on the loss that keeps gradients within the range of float16, all of it on the device."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

START, GROWTH, BACKOFF, GROWTH_INTERVAL = 2.0**16, 2.0, 0.5, 2000


class GradientScale:
    """Halves when a gradient overflows, doubles after 2000 steps in which none did (Micikevicius et al. 2018, 1710.03740).

    The rule and its numbers are those of torch.amp.GradScaler, which asks the host about each step.
    """

    def __init__(self, device: torch.device) -> None:
        self._scale = torch.full((), START, device=device)
        self._good_steps = torch.zeros((), device=device)

    def scale(self, loss: Tensor) -> Tensor:
        return loss * self._scale

    def unscale(self, gradients: Iterable[Tensor], *, times: int = 1) -> None:
        """Divide in place; exact, since the scale is a power of two. `times` makes a sum over ranks of their mean."""
        torch._foreach_mul_(list(gradients), self._scale.reciprocal() * times)

    def update(self, loss: Tensor, bad: Tensor) -> Tensor:
        """After a step that was skipped for being `bad`, or was not.

        Returns whether it was a mere overflow, which a smaller scale may mend: the loss is finite and the scale is
        above 1.
        """
        overflow = bad & loss.isfinite() & (self._scale > 1)
        self._good_steps = torch.where(bad, 0.0, self._good_steps + 1)
        grows = self._good_steps >= GROWTH_INTERVAL
        grown = torch.where(grows, self._scale * GROWTH, self._scale)
        grown = torch.where(grown.isfinite(), grown, self._scale)
        self._scale = torch.where(bad, self._scale * BACKOFF, grown)
        self._good_steps = torch.where(grows, 0.0, self._good_steps)
        return overflow

    def state(self) -> dict[str, Any]:
        return {"scale": self._scale, "good_steps": self._good_steps}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._scale.copy_(state["scale"])
        self._good_steps.copy_(state["good_steps"])
