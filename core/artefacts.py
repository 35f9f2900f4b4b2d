"""What a run leaves behind and when: previews, checkpoints and exports, on their own rhythms or on request."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep

from events.bus import Bus
from events.catalogue import CHECKPOINT_LOADED, CHECKPOINT_RETENTION, CHECKPOINT_SAVED, CHECKPOINT_START
from events.control import Control
from events.payloads import CheckpointLoaded, CheckpointSaved, CheckpointStart, RetentionContext, RunInfo

from .checkpoint import manifest
from .checkpoint.contents import Checkpoint
from .checkpoint.snapshot import Snapshot
from .checkpoint.writer import (
    LAST_ATTEMPTS,
    LAST_WAIT_SECONDS,
    Job,
    Patience,
    Writer,
    Written,
    room_problem,
    why_not_saved,
)
from .config import Config
from .config_file import redactor_of
from .device import Device
from .errors import ResourceError
from .evaluation_weights import evaluation_weights
from .export import Exporter
from .metrics import MetricsRing
from .position import Position
from .preview import Previews
from .run_state import RunState
from .time_spent import TimeSpent

log = logging.getLogger("signalbox.train")


@dataclass(slots=True, kw_only=True)
class Artefacts:
    """Previews, checkpoints and exports of one run."""

    config: Config
    run: RunInfo
    bus: Bus
    control: Control
    state: RunState
    writer: Writer
    previews: Previews
    spent: TimeSpent
    device: Device
    _asked: list[tuple[str, str]] = field(default_factory=list)
    _snapshot: Snapshot = field(default_factory=Snapshot)
    _patience: Patience = field(default_factory=Patience)
    _is_last: bool = False

    def ask(self, kind: str, reason: str) -> None:
        """Have a `save`, a `preview`, an `evaluate` or an `export` at the next boundary."""
        self._asked.append((kind, reason))

    def require_room(self) -> None:
        """Raises ResourceError when a checkpoint would not fit on the disk, before anything has been trained."""
        if problem := room_problem(self.state.expected_bytes(), self.writer.folder.folder):
            raise ResourceError(problem)

    def at_start(self) -> None:
        """What is wanted of the model before its first step."""
        if self.config.validation.at_start:
            self._measure(0, 0, "start")
        if self.config.preview.at_start:
            self._preview(0, "start")

    def catch_up(self, position: Position) -> bool:
        """Measure what was due at the step the run was stopped at, which goes before; whether it was."""
        return not self.state.validation.has_measured(position.step) and self.validate_when_due(position)

    def validate_when_due(self, position: Position) -> bool:
        """Measure the validation loss where it is due or asked for; whether it was."""
        every = position.settings.get("validation.every_steps", self.config.validation.every_steps)
        asked = dict(self._asked)
        self._asked = [(kind, reason) for kind, reason in self._asked if kind != "evaluate"]
        if "evaluate" not in asked and not _due(position.step, every):
            return False
        self._measure(position.step, position.epoch, asked.get("evaluate", "every"))
        return True

    def keep_up(self, position: Position, metrics: MetricsRing) -> None:
        """Whatever else is due or asked for at this boundary; waits for the device only then."""
        step, asked = position.step, dict(self._asked)
        self._asked.clear()
        every = position.settings.get("preview.every_steps", self.config.preview.every_steps)
        if "preview" in asked or _due(step, every):
            self._preview(step, asked.get("preview", "every"))
        every = position.settings.get("checkpoint.every_steps", self.config.checkpoint.every_steps)
        if "save" in asked or _due(step, every):
            self.save(position, metrics, asked.get("save", "every"))
        if "export" in asked or _due(step, self.config.export.every_steps):
            self.export(step)

    def at_end(self, position: Position, metrics: MetricsRing, *, reason: str) -> None:
        """The last validation and preview of a complete run, and the last checkpoint of any."""
        asked = dict(self._asked)
        is_complete = reason == "complete" and not self.state.validation.has_measured(position.step)
        if is_complete or "evaluate" in asked:
            self._measure(position.step, position.epoch, asked.get("evaluate", "end"))
        if (self.config.preview.at_end and reason == "complete") or "preview" in asked:
            self._preview(position.step, asked.get("preview", "end"))
        self.save_last(position, metrics, reason)
        if "export" in asked and not (reason == "complete" and self.config.export.at_end):
            self.export(position.step)

    def save(self, position: Position, metrics: MetricsRing, reason: str) -> None:
        """Take a checkpoint's contents after the lanes are drained (P7), and have it written beside training.

        Waits for the device and for the checkpoint before, if that is still being written.
        """
        with self.spent.on("checkpoints"):
            self.settle(wait=True)
            self._drain()
            if self.bus[CHECKPOINT_START].chain:
                self.bus[CHECKPOINT_START].emit(CheckpointStart(run=self.run, step=position.step, reason=reason))
                self._drain()  # a handler may have handed something over
            self.spent.wait_for(self.device.device)  # as collecting would
            self._snapshot.begin()
            contents = self.state.collect(position, metrics, self._snapshot.take)
            self._snapshot.end()
            going = self._going(position, metrics)
            self.writer.hand_over(
                Job(step=position.step, reason=reason, contents=contents, going=going, arrived=self._snapshot.arrived)
            )

    def settle(self, *, wait: bool = False) -> None:
        """Tell of a checkpoint that has been written, or act on one that could not be; asks again when it is time to.

        Raises ResourceError where `checkpoint.on_failure` says so, and whatever else went wrong in the thread.
        """
        written = self.writer.outcome(wait=wait)
        while written is not None and isinstance(written.error, OSError):
            written = self._again(written.job, written.error)
        if written is not None:
            if written.error is not None:
                raise written.error
            self._patience.succeeded()
            self._tell_saved(written)
        elif self._patience.is_over:
            self.ask("save", "again after a failure")

    def save_last(self, position: Position, metrics: MetricsRing, reason: str) -> None:
        """Save, and wait until it is whole; a few attempts, then ResourceError."""
        for attempt in range(LAST_ATTEMPTS):
            self.save(position, metrics, reason)
            self._is_last = attempt == LAST_ATTEMPTS - 1
            with self.spent.on("checkpoints"):
                self.settle(wait=True)
                if not self._patience.is_failing:
                    return
                sleep(LAST_WAIT_SECONDS)

    def load(self, checkpoint: Checkpoint, metrics: MetricsRing) -> Position:
        """Read and check everything, then apply it; returns where the run stands.

        Raises CheckpointError when the checkpoint does not fit the run, before anything is changed.
        """
        position = self.state.apply(self.state.read(checkpoint), metrics)
        if self.bus[CHECKPOINT_LOADED].chain:
            self.bus[CHECKPOINT_LOADED].emit(CheckpointLoaded(run=self.run, step=position.step, path=checkpoint.path))
        return position

    def export(self, step: int) -> Path:
        family = self.state.family
        bare = {name: self.state.trained.get(name, module) for name, module in family.modules.items()}
        exporter = Exporter(
            bus=self.bus, run=self.run, family=family, modules=bare, settings=self.config.export,
            redactor=redactor_of(self.config),
        )  # fmt: skip
        with self.spent.on("exports"), evaluation_weights(self.state.optimizer):
            path = exporter.export(step)
        log.info("exported %s", path)
        return path

    def _drain(self) -> None:
        with self.spent.on("lanes blocked"):
            self.bus.lanes.drain()
        self.bus.surface_async_failures()

    def _going(self, position: Position, metrics: MetricsRing) -> tuple[int, ...]:
        """Steps whose checkpoints may go after this one; with `rewind` never the only one that there is to go back to."""
        going = self.writer.folder.going(position.step, self._retain)
        if self.config.train.on_nonfinite != "rewind":
            return going
        kept = metrics.newest_sound([*map(manifest.step_of, self.writer.folder.existing()), position.step])
        return tuple(step for step in going if step != kept)

    def _retain(self, new: int, going: tuple[int, ...]) -> tuple[int, ...]:
        """Of the steps whose checkpoints are about to go, those that plugins let go."""
        context = RetentionContext(run=self.run, step=new)
        let_go: tuple[int, ...] = self.bus[CHECKPOINT_RETENTION].apply(going, context)
        return tuple(step for step in going if step in let_go)

    def _measure(self, step: int, epoch: int, reason: str) -> None:
        self.spent.wait_for(self.device.device)
        with self.spent.on("validation"), evaluation_weights(self.state.optimizer):
            self.state.validation.measure(step, epoch, reason)

    def _preview(self, step: int, reason: str) -> None:
        self.spent.wait_for(self.device.device)
        with self.spent.on("previews"), evaluation_weights(self.state.optimizer):
            grid = self.previews.render(step, reason)
        if grid is not None:
            log.info("previews %s", grid)

    def _tell_saved(self, written: Written) -> None:
        job, path = written.job, written.path
        assert path is not None
        log.info("checkpoint %s (%s, written in %.1f s)", path, job.reason, written.seconds)
        signal = self.bus[CHECKPOINT_SAVED]
        if signal.chain:
            signal.emit(
                CheckpointSaved(run=self.run, step=job.step, reason=job.reason, path=path, files=job.contents.files)
            )

    def _again(self, job: Job, error: OSError) -> Written | None:
        """What `checkpoint.on_failure` wants after a failure: None to go on, or the outcome of the next attempt."""
        said, policy = why_not_saved(error, job, self.writer.folder.folder), self.config.checkpoint.on_failure
        if policy == "stop" or self._is_last:
            raise ResourceError(
                f"{said}. The checkpoint before it stands; make room and run the same command"
            ) from error
        wait = self._patience.failed()
        if policy == "retry":
            log.error("%s; training goes on, next attempt in %.0f s", said, wait)
            return None
        log.error("%s; training waits, next attempt in %.0f s", said, wait)
        with self.spent.on("checkpoints"):
            self._pause(wait, said)
            self.writer.hand_over(job)
            return self.writer.outcome(wait=True)

    def _pause(self, seconds: float, said: str) -> None:
        """Wait. Raises ResourceError when the run is asked to stop meanwhile."""
        until = monotonic() + seconds
        while (left := until - monotonic()) > 0:
            if self.control.is_asked("stop"):
                raise ResourceError(f"{said}. Asked to stop while waiting for room; the checkpoint before it stands")
            sleep(min(left, 0.2))


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
