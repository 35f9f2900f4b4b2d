"""How fast a run goes, shown a few times a second."""

from collections import deque
from dataclasses import dataclass, field
from time import perf_counter

from events.bus import Bus
from events.catalogue import PROGRESS
from events.payloads import Progress, RunInfo

from ..resuming.position import Position
from ..timing.spent import TimeSpent

SHOWN_SECONDS = 0.25
MARKS = 60
"""How many shows a rate is taken over: 15 s, or 60 steps where a step takes longer."""


@dataclass(slots=True, kw_only=True)
class Pace:
    """Of one run's training loop."""

    run: RunInfo
    bus: Bus
    spent: TimeSpent
    _marks: deque[tuple[float, int, int]] = field(default_factory=lambda: deque(maxlen=MARKS))
    """(time, step, images) of the newest shows."""

    def begin(self, at: Position) -> None:
        """Count from here."""
        self.spent.begin_training()
        self._marks.clear()
        self._marks.append((perf_counter(), at.step, at.images))

    def show(self, at: Position, loss: float | None, *, now: bool = False) -> None:
        """Emit `progress` when it is time to, or at once."""
        signal, moment = self.bus[PROGRESS], perf_counter()
        if not signal.chain or (moment - self._marks[-1][0] < SHOWN_SECONDS and not now):
            return
        self._marks.append((moment, at.step, at.images))
        begun, step, images = self._marks[0]
        seconds = max(moment - begun, 1e-9)
        signal.emit(
            Progress(
                run=self.run, step=at.step, steps=self.run.steps, loss=loss,
                images_per_second=(at.images - images) / seconds,
                eta_seconds=seconds / max(at.step - step, 1) * (self.run.steps - at.step),
                data_fraction=self.spent.data_fraction(),
            )
        )  # fmt: skip
