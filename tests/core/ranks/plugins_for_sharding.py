"""Plugins for the tests of runs whose weights are divided."""

import hashlib
import json
import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from events import Plugin, PluginSettings, on
from events.payloads import CheckpointLoaded, CheckpointStart, ModelReady, StepEnd

if TYPE_CHECKING:
    from torch import Tensor


class RecordWhole(Plugin):
    """Writes digests of all that is trained, undivided, and how many bytes of it each rank keeps."""

    @on("model.ready")
    def begin(self, event: ModelReady) -> None:
        self._groups, self._optimizer, self._folder = event.groups, event.optimizer, event.run.folder
        self._modules = [event.modules[name] for name in ("unet", "text_encoder")]

    @on("step.end", ranks="all", collective=True)
    @on("checkpoint.start", ranks="all", collective=True)
    @on("checkpoint.loaded", ranks="all", collective=True)
    def record(self, event: StepEnd | CheckpointStart | CheckpointLoaded) -> None:
        names = {parameter: name for group in self._groups for name, parameter in group.parameters.items()}
        state = {
            f"{names[parameter]}/{key}": value
            for parameter, entries in self._optimizer.state.items()
            for key, value in entries.items()
        }
        means = self.bus.plugins["Ema"].state_dict()["means"]
        kept = [weight for module in self._modules for weight in module.parameters()]
        line = {
            "at": type(event).__name__, "step": event.step, "processes": self.ranks.count,
            "weights": digest({name: parameter for parameter, name in names.items()}),
            "optimizer": digest(state), "means": digest(means),
            "bytes": self.ranks.gather(sum(own(one).nbytes for one in (*kept, *state.values()))),
        }  # fmt: skip
        if self.ranks.is_main:
            with (self._folder / "record.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")


class DieSaving(Plugin):
    """This rank is killed in the file that it writes of the checkpoint of a step."""

    class Settings(PluginSettings):
        rank: int
        step: int

    @on("checkpoint.start", ranks="all")
    def prepare(self, event: CheckpointStart) -> None:
        if self.ranks.rank == self.settings.rank and event.step == self.settings.step:
            threading.Thread(target=_die_beside, args=(event.run.folder / "checkpoints",), daemon=True).start()


def _die_beside(folder: Path) -> None:
    """Once something is being written there."""
    while not any(path.stat().st_size for path in folder.glob(".tmp-*/*")):
        pass
    os.kill(os.getpid(), signal.SIGKILL)


def own(tensor: Any) -> "Tensor":
    """What this rank keeps of it."""
    found: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return found


def digest(tensors: "dict[str, Any]") -> str:
    """Of the undivided values, by name; a collective where they are divided."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        whole = tensors[name].detach()
        whole = whole.full_tensor() if hasattr(whole, "full_tensor") else whole
        found.update(name.encode() + whole.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
