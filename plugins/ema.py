"""Exponential moving average of the trained weights."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from events import Plugin, PluginSettings, on, transform
from events.payloads import ExportContext, ModelReady, PreviewEnd, PreviewStart

if TYPE_CHECKING:
    from torch import Tensor


class Ema(Plugin):
    """Keep mean <- d mean + (1 - d) weight with d = min(decay, (1 + s) / (10 + s)) after s updates.

    Weights are averaged as in Polyak and Juditsky 1992; the warm-up of d is TensorFlow's ExponentialMovingAverage. It
    runs inside the closed step, as a hook on the optimizer, and does not count steps that were skipped for not being
    finite. Previews and exports use the mean; training does not.
    """

    class Settings(PluginSettings):
        decay: float = Field(0.9999, ge=0, lt=1, description="of the mean, once warmed up")

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        super().__init__(settings, name=name)
        self._weights: dict[str, Tensor] = {}
        self._means: dict[str, Tensor] = {}
        self._updates: Tensor | None = None
        self._set_aside: dict[str, Tensor] = {}

    @on("model.ready")
    def begin(self, event: ModelReady) -> None:
        import torch

        self._weights = {name: one.detach() for group in event.groups for name, one in group.parameters.items()}
        self._means = {name: weight.clone() for name, weight in self._weights.items()}
        device = next(iter(self._weights.values())).device
        self._updates = torch.zeros((), device=device)
        event.optimizer.register_step_post_hook(lambda optimizer, *_: self._update(optimizer))

    def _update(self, optimizer: Any) -> None:
        """Three kernels over all weights and a few scalar ones; nothing waits for the device."""
        import torch

        assert self._updates is not None
        taken = 1 - getattr(optimizer, "found_inf", torch.zeros_like(self._updates))
        decay = ((1 + self._updates) / (10 + self._updates)).clamp(max=self.settings.decay)
        share = (1 - decay) * taken
        means = list(self._means.values())
        shift = torch._foreach_sub(list(self._weights.values()), means)
        torch._foreach_mul_(shift, share)  # a tensor: a number would have to be fetched from the device
        torch._foreach_add_(means, shift)
        self._updates += taken

    @on("preview.start", priority=10)
    def swap_in(self, event: PreviewStart) -> None:
        self._set_aside = {name: weight.clone() for name, weight in self._weights.items()}
        for name, weight in self._weights.items():
            weight.copy_(self._means[name])

    @on("preview.end", priority=90)
    def swap_out(self, event: PreviewEnd) -> None:
        for name, weight in self._set_aside.items():
            self._weights[name].copy_(weight)
        self._set_aside = {}

    @transform("checkpoint.tensors", priority=10)
    def export_mean(self, tensors: "dict[str, Tensor]", context: ExportContext) -> "dict[str, Tensor]":
        prefix = f"{context.module}."
        means = {name.removeprefix(prefix): mean for name, mean in self._means.items() if name.startswith(prefix)}
        return {name: means[name].cpu() if name in means else tensor for name, tensor in tensors.items()}

    def state_dict(self) -> Mapping[str, Any]:
        return {"means": self._means, "updates": self._updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, mean in self._means.items():
            mean.copy_(state["means"][name])
        if self._updates is not None:
            self._updates.copy_(state["updates"])
