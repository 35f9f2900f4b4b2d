"""Exponential moving average of the trained weights."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, PositiveInt

from events import Plugin, PluginSettings, on, transform
from events.payloads import (
    CheckpointStart,
    ExportContext,
    ModelReady,
    PreviewEnd,
    PreviewStart,
    ValidationEnd,
    ValidationStart,
)

if TYPE_CHECKING:
    from torch import Tensor

GROUP_ELEMENTS = 1 << 26
"""The update needs as much memory again as the weights it works on at once: a quarter GiB of float32."""


class Ema(Plugin):
    """Keep mean <- d mean + (1 - d) weight with d = min(decay, (1 + s) / (10 + s)) after s updates.

    Weights are averaged as in Polyak and Juditsky 1992; the warm-up of d is TensorFlow's ExponentialMovingAverage. It
    runs inside the closed step, as a hook on the optimizer, and does not count steps that were skipped for not being
    finite. Previews, exports and, unless told otherwise, validation use the mean; training does not. It takes as much memory as the trained weights.
    """

    class Settings(PluginSettings):
        decay: float = Field(0.9999, ge=0, lt=1, description="of the mean, once warmed up")
        validation: bool = Field(True, description="validate with the mean, rather than with the weights as trained")

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        super().__init__(settings, name=name)
        self._weights: dict[str, Tensor] = {}
        self._means: dict[str, Tensor] = {}
        self._groups: list[tuple[list[Tensor], list[Tensor]]] = []
        self._updates: Tensor | None = None
        self._is_swapped = False
        """The weights hold the means, and the other way round."""

    @on("model.ready")
    def begin(self, event: ModelReady) -> None:
        import torch

        self._weights = {name: one.detach() for group in event.groups for name, one in group.parameters.items()}
        self._means = {name: weight.clone() for name, weight in self._weights.items()}
        self._groups = list(_in_groups(self._weights, self._means))
        device = next(iter(self._weights.values())).device
        self._updates = torch.zeros((), device=device)
        event.optimizer.register_step_post_hook(lambda optimizer, *_: self._update(optimizer))

    def _update(self, optimizer: Any) -> None:
        """A few scalar kernels, and three over each group of weights; nothing waits for the device."""
        import torch

        assert self._updates is not None
        taken = 1 - getattr(optimizer, "found_inf", torch.zeros_like(self._updates))
        decay = ((1 + self._updates) / (10 + self._updates)).clamp(max=self.settings.decay)
        share = (1 - decay) * taken
        for weights, means in self._groups:
            _approach(means, weights, share)
        self._updates += taken

    @on("preview.start", priority=10)
    def swap_in(self, event: PreviewStart) -> None:
        if not self._is_swapped:
            self._exchange()

    @on("validation.start", priority=10)
    def swap_in_to_validate(self, event: ValidationStart) -> None:
        if self.settings.validation and not self._is_swapped:
            self._exchange()

    @on("checkpoint.start", priority=0)
    @on("validation.end", priority=90)
    @on("preview.end", priority=90)
    def swap_out(self, event: PreviewEnd | ValidationEnd | CheckpointStart) -> None:
        """Also before a checkpoint: after a preview that a plugin's error cut short, it saves what was trained."""
        if self._is_swapped:
            self._exchange()

    @transform("checkpoint.tensors", priority=10)
    def export_mean(self, tensors: "dict[str, Tensor]", context: ExportContext) -> "dict[str, Tensor]":
        means = {name: self._means.get(f"{context.module}.{name}") for name in tensors}
        return {name: tensor if (mean := means[name]) is None else mean.cpu() for name, tensor in tensors.items()}

    def state_dict(self) -> Mapping[str, Any]:
        return {"means": self._means, "updates": self._updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, mean in self._means.items():
            mean.copy_(state["means"][name])
        if self._updates is not None:
            self._updates.copy_(state["updates"])

    def _exchange(self) -> None:
        for name, weight in self._weights.items():
            kept = weight.clone()
            weight.copy_(self._means[name])
            self._means[name].copy_(kept)
        self._is_swapped = not self._is_swapped


def _approach(means: "list[Tensor]", weights: "list[Tensor]", share: "Tensor") -> None:
    """mean <- mean + share (weight - mean), in place."""
    import torch

    shift = torch._foreach_sub(weights, means)
    torch._foreach_mul_(shift, share)  # a tensor: a number would have to be fetched from the device
    torch._foreach_add_(means, shift)


def _in_groups(
    weights: "Mapping[str, Tensor]", means: "Mapping[str, Tensor]"
) -> "Iterator[tuple[list[Tensor], list[Tensor]]]":
    """The weights and their means in the same order, in lists of up to `GROUP_ELEMENTS`, or of one larger tensor."""
    group: list[str] = []
    elements = 0
    for name, weight in weights.items():
        if group and elements + weight.numel() > GROUP_ELEMENTS:
            yield [weights[one] for one in group], [means[one] for one in group]
            group, elements = [], 0
        group.append(name)
        elements += weight.numel()
    if group:
        yield [weights[one] for one in group], [means[one] for one in group]
