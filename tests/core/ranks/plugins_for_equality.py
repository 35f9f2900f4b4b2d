"""Plugins that the tests of equal runs on several processes name in their configs."""

import json
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from events import Plugin, PluginSettings, build, on
from events.payloads import (
    Batch,
    LossFunction,
    MetricsReady,
    ModelContext,
    RunClose,
    RunStart,
    StepEnd,
    StepParts,
)  # fmt: skip

if TYPE_CHECKING:
    from torch import Tensor, nn


class Dropout(Plugin):
    """Has the denoiser drop a tenth of what passes through its blocks."""

    @build("model")
    def drop(self, modules: "dict[str, nn.Module]", context: ModelContext) -> "dict[str, nn.Module]":
        import torch

        for module in modules["unet"].modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.1
        return modules


class Witness(Plugin):
    """Writes what each rank trained on, and after which step which report was told."""

    _step = 0

    @on("step.end", ranks="all")
    def write(self, event: StepEnd) -> None:
        self._step = event.step
        batches = [list(batch.sample_ids) for batch in event.batches]
        self._append(event.run.folder, "trained", {"step": event.step, "epoch": event.epoch, "batches": batches})

    @on("metrics.ready")
    def write_report(self, event: MetricsReady) -> None:
        self._append(event.run.folder, "told", {"step": event.step, "after": self._step})

    def _append(self, folder: Path, what: str, line: dict[str, Any]) -> None:
        with (folder / f"{what}-{self.ranks.rank}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def witnessed(folder: Path, what: str, rank: int) -> list[dict[str, Any]]:
    """The lines that a witness has written on that rank."""
    return [json.loads(line) for line in (folder / f"{what}-{rank}.jsonl").read_text().splitlines()]


class StopBySignal(Plugin):
    """Sends rank 1 SIGTERM, as a cluster does, once a step has been taken; alone, this process."""

    class Settings(PluginSettings):
        step: int

    @on("step.end", ranks="all")
    def send(self, event: StepEnd) -> None:
        if event.step == self.settings.step and self.ranks.rank == self.ranks.count - 1:
            os.kill(os.getpid(), signal.SIGTERM)


class LossOfOne(Plugin):
    """Says 1 for the loss of every image, with the gradient that it had."""

    @build("loss")
    def even(self, loss: LossFunction, parts: StepParts) -> LossFunction:
        def of_one(prediction: "Tensor", target: "Tensor", t: "Tensor", batch: Batch) -> "Tensor":
            value = loss(prediction, target, t, batch)
            return 1 + value - value.detach()

        return of_one


class SpoilOnOne(Plugin):
    """Makes the loss of one rank's images not finite in some steps."""

    class Settings(PluginSettings):
        steps: tuple[int, ...]
        rank: int = 1

    @on("step.end", ranks="all")
    def remember(self, event: StepEnd) -> None:
        self.taken = event.step

    taken = 0

    @build("loss")
    def spoil(self, loss: LossFunction, parts: StepParts) -> LossFunction:
        def spoiled(prediction: "Tensor", target: "Tensor", t: "Tensor", batch: Batch) -> "Tensor":
            value = loss(prediction, target, t, batch)
            is_bad = self.taken + 1 in self.settings.steps and self.ranks.rank == self.settings.rank
            return value * float("nan") if is_bad else value

        return spoiled


class CompileQuickly(Plugin):
    """Has torch.compile trace and check what it takes whole, and then run it as it is, which takes seconds, not minutes."""

    _compile: Callable[..., Any] | None = None

    @on("run.start", ranks="all")
    def begin(self, event: RunStart) -> None:
        import torch

        self._compile = torch.compile
        torch.compile = partial(torch.compile, backend="eager")

    @on("run.close", ranks="all")
    def end(self, event: RunClose) -> None:
        import torch

        if self._compile is not None:
            torch.compile = self._compile
