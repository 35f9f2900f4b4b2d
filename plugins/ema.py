"""Exponential moving average of the trained weights."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, PositiveInt

from events import Plugin, PluginSettings, on
from events.payloads import (
    CheckpointStart,
    ExportEnd,
    ExportStart,
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
    finite. Previews, exports and, unless told otherwise, validation use the mean; training does not.

    With several processes each keeps the same mean, and the main one's is saved.

    It takes as much memory as the trained weights, on their device; or twice that on the host, where the weights are
    copied behind each update and taken into the mean before the next, or before the mean is used. Both give the same
    mean.
    """

    class Settings(PluginSettings):
        decay: float = Field(0.9999, ge=0, lt=1, description="of the mean, once warmed up; by update, not by step")
        validation: bool = Field(True, description="validate with the mean, rather than with the weights as trained")
        device: Literal["same", "cpu"] = Field("same", description="where the mean is kept: beside the weights, or not")
        every_steps: PositiveInt = Field(1, description="steps between two updates")

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        super().__init__(settings, name=name)
        self._weights: dict[str, Tensor] = {}
        self._means: dict[str, Tensor] = {}
        self._groups: list[tuple[list[Tensor], list[Tensor]]] = []
        self._updates: Tensor | None = None
        self._steps = 0
        self._copy: HostCopy | None = None
        self._is_swapped = False
        """The weights hold the means, and the other way round."""

    @on("model.ready")
    def begin(self, event: ModelReady) -> None:
        import torch

        self._weights = {name: one.detach() for group in event.groups for name, one in group.parameters.items()}
        self._copy = HostCopy(self._weights) if self.settings.device == "cpu" else None
        sources = self._weights if self._copy is None else self._copy.weights
        self._means = {name: torch.empty_like(source).copy_(self._weights[name]) for name, source in sources.items()}
        self._groups = list(_in_groups(sources, self._means))
        self._updates = torch.zeros((), device=next(iter(self._means.values())).device)
        event.optimizer.register_step_post_hook(lambda optimizer, *_: self._update(optimizer))

    def _update(self, optimizer: Any) -> None:
        """A few scalar kernels, and three over each group of weights; nothing waits for the device.

        With the mean on the host: copies, after waiting for those of the update before, which are long there.
        """
        import torch

        assert self._updates is not None
        self._steps += 1
        if self._steps % self.settings.every_steps:
            return
        skipped = getattr(optimizer, "found_inf", None)
        taken = torch.ones_like(self._updates) if skipped is None else 1 - skipped
        if self._copy is None:
            self._take_in(taken)
        else:
            self._catch_up()
            self._copy.send(self._weights, taken)

    def _take_in(self, taken: "Tensor") -> None:
        """One update; `taken` is 1, or 0 for a step that was skipped."""
        assert self._updates is not None
        decay = ((1 + self._updates) / (10 + self._updates)).clamp(max=self.settings.decay)
        share = (1 - decay) * taken
        for weights, means in self._groups:
            _approach(means, weights, share)
        self._updates += taken

    def _catch_up(self) -> None:
        """Take in what is still on its way to the host."""
        if self._copy is not None and (taken := self._copy.arrived()) is not None:
            self._take_in(taken)

    @on("export.start", priority=10, ranks="all")
    @on("preview.start", priority=10, ranks="all")
    def swap_in(self, event: PreviewStart | ExportStart) -> None:
        if not self._is_swapped:
            self._exchange()

    @on("validation.start", priority=10, ranks="all")
    def swap_in_to_validate(self, event: ValidationStart) -> None:
        if self.settings.validation and not self._is_swapped:
            self._exchange()

    @on("checkpoint.start", priority=0, ranks="all")
    @on("validation.end", priority=90, ranks="all")
    @on("export.end", priority=90, ranks="all")
    @on("preview.end", priority=90, ranks="all")
    def swap_out(self, event: PreviewEnd | ExportEnd | ValidationEnd | CheckpointStart) -> None:
        """Also before a checkpoint: after a preview that a plugin's error cut short, it saves what was trained."""
        if self._is_swapped:
            self._exchange()

    def state_dict(self) -> Mapping[str, Any]:
        self._catch_up()
        return {"means": self._means, "updates": self._updates, "steps": self._steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._catch_up()  # what is on its way belongs to the means that are given up
        for name, mean in self._means.items():
            mean.copy_(state["means"][name])
        if self._updates is not None:
            self._updates.copy_(state["updates"])
        self._steps = state["steps"]

    def _exchange(self) -> None:
        import torch

        self._catch_up()
        for name, weight in self._weights.items():
            kept = torch.empty_like(self._means[name]).copy_(weight)
            weight.copy_(self._means[name])
            self._means[name].copy_(kept)
        self._is_swapped = not self._is_swapped


class HostCopy:
    """The weights as they were, on the host; copied while the device goes on, into memory that is pinned for it."""

    def __init__(self, weights: "Mapping[str, Tensor]") -> None:
        import torch

        pinned = next(iter(weights.values())).is_cuda
        self.weights = {
            name: torch.empty_like(weight, device="cpu", pin_memory=pinned) for name, weight in weights.items()
        }
        self._taken = torch.zeros((), pin_memory=pinned)
        self._copied = torch.cuda.Event() if pinned else None
        self._is_under_way = False

    def send(self, weights: "Mapping[str, Tensor]", taken: "Tensor") -> None:
        """Enqueue the copies; the device makes them before whatever comes next."""
        for name, weight in weights.items():
            self.weights[name].copy_(weight, non_blocking=True)
        self._taken.copy_(taken, non_blocking=True)
        if self._copied is not None:
            self._copied.record()
        self._is_under_way = True

    def arrived(self) -> "Tensor | None":
        """What was sent as `taken`, once `weights` are here too; None when nothing has been sent since."""
        if not self._is_under_way:
            return None
        if self._copied is not None:
            self._copied.synchronize()
        self._is_under_way = False
        return self._taken


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
