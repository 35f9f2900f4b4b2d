"""Plugins for the tests of precision: gradients too large for float16, and what a forward pass computes in."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from events import Plugin, PluginSettings, build, on
from events.payloads import Batch, LossFunction, ModelReady, StepParts, StepStart


class Amplify(Plugin):
    """Multiplies the loss in the named steps, so that it stays finite and its gradients do not."""

    class Settings(PluginSettings):
        steps: list[int] = []
        factor: float = 1e4

    step = 0

    @on("step.start")
    def note(self, event: StepStart) -> None:
        self.step = event.step

    @build("loss")
    def amplify(self, loss: LossFunction, parts: StepParts) -> LossFunction:
        def amplified(prediction: Tensor, target: Tensor, t: Tensor, batch: Batch) -> Tensor:
            found = loss(prediction, target, t, batch)
            return found * (self.settings.factor if self.step in self.settings.steps else 1.0)

        return amplified


class Watch(Plugin):
    """Counts the UNet's convolutions, what came out of each, and what lies channels last."""

    seen: list[tuple[torch.dtype, bool]]
    entering: list[bool]
    weights: Mapping[str, bool]

    @on("model.ready")
    def watch(self, event: ModelReady) -> None:
        self.seen, self.entering = [], []
        self.first = event.modules["unet"].get_submodule("conv_in")
        for module in event.modules["unet"].modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(self.look)
        self.weights = {
            name: weight.is_contiguous(memory_format=torch.channels_last)
            for name, weight in event.modules["unet"].named_parameters()
            if weight.ndim == 4
        }

    def look(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self.seen.append((output.dtype, output.is_contiguous(memory_format=torch.channels_last)))
        if module is self.first:
            self.entering.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
