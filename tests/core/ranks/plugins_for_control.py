"""Plugins by which tests of several processes ask the run for something on one of them, and note what comes of it."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from time import sleep
from typing import Any, Literal

from pydantic import Field

from core.checkpoint import writer
from core.run_folder.control_files import Wish as FileWish
from core.run_folder.control_files import ask
from events import Plugin, PluginSettings, on
from events.control import Control
from events.payloads import (
    CacheStart,
    CheckpointSaved,
    CheckpointStart,
    ControlApplied,
    EpochEnd,
    ExportEnd,
    MetricsReady,
    PreviewEnd,
    RunClose,
    RunStart,
    StepEnd,
    StepStart,
    ValidationEnd,
)

FULL_BYTES = 1 << 16
"""No file may be larger while the disk counts as full: fewer than a checkpoint's, more than those that are told of it."""
Wish = Literal["stop", "save", "preview", "evaluate", "export", "skip_batch", "set"]


class Asks(Plugin):
    """Asks for something on one rank, once: when a step or an epoch of this number begins or ends."""

    class Settings(PluginSettings):
        rank: int
        wish: Wish
        when: Literal["step.start", "step.end", "epoch.end", "metrics.ready", "cache.start", "file"] = "step.end"
        number: int = Field(0, description="of the step or epoch")
        value: int = Field(0, description="of train.accumulate")

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        super().__init__(settings, name=name)
        self._control = Control()
        self._has_asked = False

    @on("run.start", ranks="all")
    def begin(self, event: RunStart) -> None:
        self._control = event.control

    @on("step.start", ranks="all")
    def before_a_step(self, event: StepStart) -> None:
        self._ask("step.start", event.step)

    @on("step.end", ranks="all")
    def after_a_step(self, event: StepEnd) -> None:
        self._ask("step.end", event.step)
        if self.settings.when == "file" and event.step == self.settings.number and self.ranks.is_main:
            wish: FileWish = self.settings.wish
            ask(event.run.folder, wish)

    @on("epoch.end", ranks="all")
    def after_an_epoch(self, event: EpochEnd) -> None:
        self._ask("epoch.end", event.epoch)

    @on("cache.start", ranks="all")
    def while_caching(self, event: CacheStart) -> None:
        self._ask("cache.start", 0)

    @on("metrics.ready", ranks="all")
    async def from_a_lane(self, event: MetricsReady) -> None:
        self._ask("metrics.ready", event.step)

    def _ask(self, when: str, number: int) -> None:
        chosen = self.settings
        if self._has_asked or (when, number, self.ranks.rank) != (chosen.when, chosen.number, chosen.rank):
            return
        self._has_asked = True
        if chosen.wish == "set":
            self._control.set("train.accumulate", chosen.value, asker=self.name)
        else:
            wish: Callable[..., None] = getattr(self._control, chosen.wish)
            wish(reason=f"asked by {self.name}", asker=self.name)


class Notes(Plugin):
    """Notes on every rank what has come of requests, in `noted-<rank>.json` of the run's folder."""

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        super().__init__(settings, name=name)
        self.noted: list[list[Any]] = []

    @on("control.applied", ranks="all")
    def applied(self, event: ControlApplied) -> None:
        self.noted.append(["applied", event.step, event.kind, event.asker])

    @on("step.end", ranks="all")
    def stepped(self, event: StepEnd) -> None:
        self.noted.append(["step", event.step, event.epoch, len(event.batches)])

    @on("preview.end", ranks="all")
    def previewed(self, event: PreviewEnd) -> None:
        self.noted.append(["preview", event.step])

    @on("validation.end", ranks="all")
    def measured(self, event: ValidationEnd) -> None:
        self.noted.append(["evaluate", event.step])

    @on("checkpoint.start", ranks="all")
    def saving(self, event: CheckpointStart) -> None:
        self.noted.append(["save", event.step, event.reason])

    @on("checkpoint.saved", ranks="all")
    def saved(self, event: CheckpointSaved) -> None:
        self.noted.append(["saved", event.step])

    @on("export.end", ranks="all")
    def exported(self, event: ExportEnd) -> None:
        self.noted.append(["export", event.step])

    @on("run.close", ranks="all")
    def write(self, event: RunClose) -> None:
        (event.run.folder / f"noted-{self.ranks.rank}.json").write_text(json.dumps(self.noted))


class Interrupted(Plugin):
    """Has a process interrupted after a step: this rank's own, or the launcher of all; twice where a second is wanted, once
    there is a checkpoint."""

    class Settings(PluginSettings):
        rank: int
        step: int
        number: int = Field(description="of the signal")
        whom: Literal["rank", "launcher"] = "rank"
        times: int = 1

    @on("run.start", ranks="all")
    def note_folder(self, event: RunStart) -> None:
        self._checkpoints = event.run.folder / "checkpoints"

    @on("step.end", ranks="all")
    def interrupt(self, event: StepEnd) -> None:
        chosen = self.settings
        if event.step != chosen.step:
            return
        if self.ranks.rank == chosen.rank:
            while chosen.times > 1 and not any(self._checkpoints.glob("step-*")):  # which is written beside training
                sleep(0.01)
            whom = os.getpid() if chosen.whom == "rank" else os.getppid()
            for _ in range(chosen.times):
                os.kill(whom, chosen.number)
                while not (
                    event.control.is_asked("stop") or chosen.number == signal.SIGKILL
                ):  # until it has come round
                    sleep(0.01)
        while chosen.times > 1:
            signal.pause()  # until the last of them ends the run


class FullFolder(Plugin):
    """Files may grow no further on the main rank, from the second save until so many have failed; others are impatient."""

    class Settings(PluginSettings):
        failures: int

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        super().__init__(settings, name=name)
        self._saves = 0

    @on("checkpoint.start", ranks="all")
    def begin(self, event: CheckpointStart) -> None:
        self._saves += 1
        if self._saves != 2:
            return
        if self.ranks.is_main:
            writer.LONGEST_WAIT_SECONDS = 0.3  # after the first, of five seconds
            limit_files(self.settings.failures)
        else:
            crew: Any = self.ranks._ranks
            crew._wait_seconds = 4.0  # shorter than a pause, and only from here on: start-up takes what it takes


def limit_files(failures: int) -> None:
    """Have so many checkpoints fail as on a disk that has no room; the real limit of a process on the size of its files."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (FULL_BYTES, hard))
    failed, real = 0, writer.Writer.outcome

    def counted(self: writer.Writer, *, wait: bool) -> writer.Written | None:
        nonlocal failed
        written = real(self, wait=wait)
        if written is not None and isinstance(written.error, OSError):
            failed += 1
            if failed == failures:
                resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        return written

    writer.Writer.outcome = counted  # type: ignore[method-assign]  # in a process of its own, which ends with the run


def noted(folder: Path, rank: int) -> list[list[Any]]:
    """What `Notes` has noted on that rank."""
    found: list[list[Any]] = json.loads((folder / f"noted-{rank}.json").read_text())
    return found
