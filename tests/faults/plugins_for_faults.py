"""Plugins that the campaign names in its configs."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from events import Plugin, PluginSettings, on
from events.payloads import CheckpointLoaded, ModelReady, StepEnd


class Journal(Plugin):
    """Keeps a digest of which samples were trained on in which step, in which variant, as a part of every checkpoint."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._digest, self._steps = "", 0

    @on("step.end")
    def note(self, event: StepEnd) -> None:
        used = [
            [event.step, sample, key.epoch, key.repeat, key.variant]
            for batch in event.batches
            for sample, key in zip(batch.sample_ids, batch.keys, strict=True)
        ]
        self._digest = sha256(f"{self._digest}{used}".encode()).hexdigest()
        self._steps += 1

    def state_dict(self) -> Mapping[str, Any]:
        return {"digest": self._digest, "steps": self._steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._digest, self._steps = state["digest"], state["steps"]


class KeepLoaded(Plugin):
    """Writes the weights as they are right after a checkpoint was taken back."""

    class Settings(PluginSettings):
        target: Path

    @on("model.ready")
    def remember(self, event: ModelReady) -> None:
        self._modules = dict(event.modules)

    @on("checkpoint.loaded")
    def write(self, event: CheckpointLoaded) -> None:
        from safetensors.torch import save_file

        weights = {
            f"{name}.{key}": tensor.detach().clone().contiguous()
            for name, module in self._modules.items()
            for key, tensor in module.state_dict().items()
        }
        save_file(weights, self.settings.target)
