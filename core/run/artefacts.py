"""What a run leaves behind and when: previews, checkpoints and exports, on their own rhythms or on request."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from events.bus import Bus
from events.catalogue import CHECKPOINT_LOADED, CHECKPOINT_RETENTION, CHECKPOINT_SAVED, CHECKPOINT_START
from events.control import Control
from events.payloads import CheckpointLoaded, CheckpointSaved, CheckpointStart, RetentionContext, RunInfo

from ..checkpoint import manifest
from ..checkpoint.contents import Checkpoint
from ..checkpoint.snapshot import Snapshot
from ..checkpoint.writer import (
    LAST_ATTEMPTS,
    LAST_WAIT_SECONDS,
    Job,
    Patience,
    Writer,
    Written,
    room_problem,
    why_not_saved,
)
from ..compute.device import Device
from ..config.file import redactor_of
from ..config.tables import Config
from ..errors import NonFiniteError, ResourceError
from ..preview.previews import Previews
from ..ranks.crew import ONE, Crew
from ..resuming.position import Position
from ..resuming.run_state import RunState
from ..step.evaluation_weights import evaluation_weights
from ..step.metrics import MetricsRing
from ..timing.spent import TimeSpent
from ..weights.export import Exporter

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
    crew: Crew = ONE
    _is_being_written: bool = False
    """Whether a checkpoint has been begun that nobody has told of; the same on every rank."""
    _asked: list[tuple[str, str]] = field(default_factory=list)
    _snapshot: Snapshot = field(default_factory=Snapshot)
    _patience: Patience = field(default_factory=Patience)
    _is_last: bool = False

    def ask(self, kind: str, reason: str) -> None:
        """Have a `save`, a `preview`, an `evaluate` or an `export` at the next boundary."""
        self._asked.append((kind, reason))

    def require_room(self) -> None:
        """Raises ResourceError when a checkpoint would not fit on the disk, before anything has been trained."""
        if self.crew.is_main and (problem := room_problem(self.state.expected_bytes(), self.writer.folder.folder)):
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
            self.crew.together("what goes before a checkpoint")
            self.spent.wait_for(self.device.device)  # as collecting would
            untold = metrics.state()
            self._is_being_written = True
            if self.crew.is_main or self.device.sharding is not None:
                self._hand_over(position, metrics, untold, reason)
            elif self.device.engine is not None:
                self.state.take_part()

    def _hand_over(self, position: Position, metrics: MetricsRing, untold: Mapping[str, Any], reason: str) -> None:
        """The main rank has everything written; where weights are divided, every rank its part of them."""
        self._snapshot.begin()
        if (sharding := self.device.sharding) is None:
            contents = self.state.collect(position, untold, self._snapshot.take)
        else:
            from ..checkpoint.parts import divide  # with torch's classes for what is divided, which take time to import

            take = partial(sharding.part, copy_of=self._snapshot.take)
            contents = divide(self.state.collect(position, untold, take), sharding.savers)
        self._snapshot.end()
        going = self._going(position, metrics) if self.crew.is_main else ()
        self.writer.hand_over(
            Job(step=position.step, reason=reason, contents=contents, going=going, arrived=self._snapshot.arrived)
        )

    def settle(self, *, wait: bool = False) -> None:
        """Tell of a checkpoint that has been written, or act on one that could not be; asks again when it is time to.

        The main rank writes, and the others hear from it, where all come by.
        Raises ResourceError where `checkpoint.on_failure` says so, and whatever else went wrong in the thread.
        """
        if self._is_being_written:
            fate = self.crew.from_main("checkpoint", lambda: self._fate(wait=wait))
            self._is_being_written = fate["is_busy"]
            if not (fate["is_busy"] or self.crew.is_main):
                self.writer.outcome(wait=True)  # of this rank's part, which the main one knows of
            if fate["refused"]:
                raise NonFiniteError(fate["refused"])
            if fate["saved"]:
                self._patience.succeeded()
                self._tell_saved(**fate["saved"])
                self.crew.together("what follows a checkpoint")
            elif fate["has_failed"] and not self.crew.is_main:
                self._patience.failed()
        elif self._patience.is_over and self.crew.is_main:
            self.control.save(reason="again after a failure", asker="checkpoint.on_failure")

    def _fate(self, *, wait: bool) -> dict[str, Any]:
        """What has become of the checkpoint that is being written, in words that travel between ranks."""
        written = self.writer.outcome(wait=wait)
        is_busy = self.writer.is_busy
        while written is not None and isinstance(written.error, OSError):
            written = self._again(written.job, written.error)
        if written is None:
            return {"is_busy": is_busy, "has_failed": not is_busy, "saved": {}, "refused": ""}
        if isinstance(written.error, NonFiniteError):
            return {"is_busy": False, "has_failed": True, "saved": {}, "refused": str(written.error)}
        if written.error is not None:
            raise written.error
        job = written.job
        saved = {
            "step": job.step, "reason": job.reason, "path": str(written.path), "files": list(job.contents.files),
            "seconds": written.seconds,
        }  # fmt: skip
        return {"is_busy": False, "has_failed": False, "saved": saved, "refused": ""}

    def leave_crew(self) -> None:
        """From now on this rank acts by itself, since another has ended."""
        self.crew = ONE

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
            redactor=redactor_of(self.config), crew=self.crew,
            gather=self.device.sharding.whole if self.device.sharding is not None else None,
        )  # fmt: skip
        with self.spent.on("exports"), evaluation_weights(self.state.optimizer):
            path = exporter.export(step)
            self.crew.together("the export")
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
            self.crew.together("validation")

    def _preview(self, step: int, reason: str) -> None:
        self.spent.wait_for(self.device.device)
        with self.spent.on("previews"), evaluation_weights(self.state.optimizer):
            grid = self.previews.render(step, reason)
            self.crew.together("previews")
        if grid is not None:
            log.info("previews %s", grid)

    def _tell_saved(self, *, step: int, reason: str, path: str, files: Sequence[str], seconds: float) -> None:
        log.info("checkpoint %s (%s, written in %.1f s)", path, reason, seconds)
        signal = self.bus[CHECKPOINT_SAVED]
        if signal.chain:
            signal.emit(CheckpointSaved(run=self.run, step=step, reason=reason, path=Path(path), files=tuple(files)))

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
            self.crew.sign_of_life(f"waiting for room at {monotonic():.0f} s")
            if self.crew.is_to_stop(self.control):
                raise ResourceError(f"{said}. Asked to stop while waiting for room; the checkpoint before it stands")
            sleep(min(left, 0.2))


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
