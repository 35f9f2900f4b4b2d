"""What becomes of steps whose loss or gradient is not finite: they are told, counted, and if that is wanted taken back.

With `train.on_nonfinite = "rewind"` a run of them sends training back to the newest whole checkpoint from before the first
of them. What follows is what a resumed run would do: the same steps with the same bits, but for the batches of the steps
that were not finite, which are left out.
"""

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from ..checkpoint import manifest
from ..checkpoint.contents import Checkpoint
from ..checkpoint.folder import CheckpointFolder, remove
from ..config.tables import TrainTable
from ..errors import NonFiniteError
from ..ranks.crew import Crew
from ..resuming.position import Position
from ..step.metrics import MetricsRing, Report, StepNote
from .artefacts import Artefacts

log = logging.getLogger("signalbox.train")


class TooManyBad(NonFiniteError):
    """Too many steps in a row were not finite; `notes` are theirs."""

    def __init__(self, message: str, notes: Sequence[StepNote]) -> None:
        super().__init__(message)
        self.notes = tuple(notes)


def tell_bad_steps(report: Report, seed: int) -> None:
    """A line for each step of the report that was skipped."""
    for bad in report.bad:
        log.warning(
            "step %d was skipped: loss %g, gradient norm %g (epoch %d, run.seed %d); its files: %s",
            bad.note.step, bad.loss, bad.grad_norm, bad.note.epoch, seed, ", ".join(bad.note.paths),
        )  # fmt: skip


def refuse_bad_steps(report: Report, settings: TrainTable) -> None:
    """Raises TooManyBad when more steps in a row were not finite than the settings allow."""
    limit = 1 if settings.on_nonfinite == "stop" else settings.max_skipped
    over = [streak for streak in report.streaks if streak.length >= limit]
    if not over:
        return
    notes = [note for streak in over for note in streak.notes]
    moved = (
        "Weights whose own gradient was finite have moved (train.fused_backward)"
        if settings.fused_backward
        else "No weight was touched by them"
    )
    raise TooManyBad(
        f"{over[0].length} step(s) in a row up to step {over[0].notes[-1].step} had a loss or gradient that is not finite"
        f" (train.on_nonfinite = '{settings.on_nonfinite}'). {moved} and the last checkpoint stands."
        f" Lower train.learning_rate, or look at: {', '.join(over[0].notes[-1].paths)}",
        notes,
    )


@dataclass(slots=True, kw_only=True)
class Rewind:
    """Goes back within the process; the second time to the same checkpoint is one too many."""

    settings: TrainTable
    artefacts: Artefacts
    metrics: MetricsRing
    _last: int | None = None
    """Step of the checkpoint that was gone back to last."""

    @property
    def is_on(self) -> bool:
        return self.settings.on_nonfinite == "rewind"

    def prepare(self, position: Position) -> None:
        """Save before the first step, so that there is always a checkpoint to go back to."""
        if self.is_on and self._crew.from_main("the first checkpoint", lambda: not self._folder.existing()):
            self.artefacts.save(position, self.metrics, "to go back to")

    def go_back(self, position: Position, error: NonFiniteError) -> Position:
        """Where the run stands then. Raises the error, or another NonFiniteError, when it is not to go back or cannot."""
        if not self.is_on:
            raise error
        with suppress(NonFiniteError):  # that of a checkpoint which would have held numbers that are not finite
            self.artefacts.settle(wait=True)
        notes = error.notes if isinstance(error, TooManyBad) else ()
        checkpoint = self._target(notes[0].step if notes else None, error)
        self.artefacts.bus.lanes.drain()
        again = self.artefacts.load(checkpoint, self.metrics)
        left_out = {*again.left_out, *position.left_out, *((note.epoch, note.batch) for note in notes)}
        again.left_out = sorted(place for place in left_out if place[0] >= again.epoch)
        for path in (
            self._folder.existing() if self._crew.is_main else ()
        ):  # of steps that are now taken anew; newest first
            if manifest.step_of(path) > checkpoint.step:
                remove(path)
        self._last = checkpoint.step
        log.warning(
            "went back to step %d: %s. %d batches of steps that were not finite are left out",
            checkpoint.step, error, len(again.left_out),
        )  # fmt: skip
        return again

    @property
    def _folder(self) -> CheckpointFolder:
        return self.artefacts.writer.folder

    @property
    def _crew(self) -> Crew:
        return self.artefacts.crew

    def _target(self, before: int | None, error: NonFiniteError) -> Checkpoint:
        """The same on every rank, as the main one finds it."""

        def look() -> int | None:
            found = newest_before(self._folder, before)
            return None if found is None else found.step

        step = self._crew.from_main("where to go back to", look)
        checkpoint = None if step is None else newest_before(self._folder, step + 1)
        if checkpoint is None:
            raise NonFiniteError(
                f"{error}\nThere is no whole checkpoint from before that to go back to; lower checkpoint.every_steps or"
                " raise checkpoint.keep"
            ) from error
        if checkpoint.step == self._last:
            raise NonFiniteError(
                f"{error}\nThe run had gone back to step {self._last} already and came to this again before it could save"
            ) from error
        return checkpoint


def newest_before(folder: CheckpointFolder, step: int | None) -> Checkpoint | None:
    """The newest whole checkpoint that does not hold that step; of all of them for None."""
    for path in folder.existing():
        if (step is None or manifest.step_of(path) < step) and manifest.problem_with(path) is None:
            return Checkpoint(path=path, step=manifest.step_of(path), facts=manifest.read(path))
    return None
