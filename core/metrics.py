"""Numbers on their way from the device to the host, without the training thread waiting for them (P9).

Each step writes a row of (loss, gradient norm, was it skipped) into a buffer on the device. A window of rows is copied in
one piece to pinned memory and read at a later step boundary, when the copy has arrived.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

COLUMNS = 3
BAD, OVERFLOW = 1.0, 2.0
"""Why a step was skipped, in the last column: something was not finite; or only because gradients were scaled, which is
in the nature of float16 and no fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepNote:
    """What the host knows of a step when it is taken."""

    step: int
    epoch: int
    images: int
    rates: Mapping[str, float]
    paths: Sequence[str]
    batch: int = -1
    """Which of the epoch's plan its first was; -1 in what older versions stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BadStep:
    """A step whose loss or gradient norm was not finite; no weight was touched by it."""

    note: StepNote
    loss: float
    grad_norm: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A window of steps, arrived."""

    step: int
    epoch: int
    values: dict[str, float]
    bad: tuple[BadStep, ...]
    streaks: "tuple[Streak, ...]"
    """Bad steps in a row, in order; the first may have begun before the window, and the last may not be over."""


@dataclass(slots=True)
class Streak:
    """Steps in a row that were not finite."""

    length: int = 0
    notes: list[StepNote] = field(default_factory=list)
    """Of its steps; what older versions stored has its length alone."""

    def add(self, note: StepNote) -> None:
        self.length += 1
        self.notes.append(note)


Window = tuple[Tensor, torch.cuda.Event | None, list[StepNote]]
"""Rows, what tells that they have arrived, and the notes of their steps."""


class MetricsRing:
    """Rows of the current window on the device, and windows that are on their way."""

    def __init__(self, device: torch.device, window: int) -> None:
        self._rows = torch.zeros(window, COLUMNS, device=device)
        self._notes: list[StepNote] = []
        self._written = 0
        self._under_way: deque[Window] = deque()
        self._newest: tuple[Window, Streak] | None = None
        """The window of the newest report, and the streak before it."""
        self._streak = Streak()

    def record(self, loss: Tensor, norm: Tensor, bad: Tensor, overflow: Tensor | None = None) -> None:
        """Write a step's row; enqueues a few small kernels and waits for nothing. `overflow` is a kind of `bad`."""
        skipped = bad.to(loss.dtype)
        if overflow is not None:
            skipped = skipped + overflow
        self._rows[self._written].copy_(torch.stack((loss, norm, skipped)))
        self._written += 1

    def note(self, note: StepNote) -> None:
        """Say which step the newest row belongs to; a full window is sent on its way."""
        self._notes.append(note)
        if self._written == len(self._rows):
            self._send()

    def landed(self, *, wait: bool = False) -> Iterator[Report]:
        """Windows that have arrived since; with `wait` every row there is, which waits for the device."""
        if wait and self._written:
            self._send()
        while self._under_way:
            rows, copied, notes = self._under_way[0]
            if copied is not None and not copied.query():
                if not wait:
                    return
                copied.synchronize()
            self._newest = self._under_way.popleft(), Streak(self._streak.length, list(self._streak.notes))
            yield self._report(rows.tolist(), notes)

    def put_back(self) -> None:
        """Have the newest report once more later, since nobody was told of it."""
        if self._newest is not None:
            window, self._streak = self._newest
            self._under_way.appendleft(window)
            self._newest = None

    def state(self) -> dict[str, Any]:
        """Rows that no report has told yet, for a checkpoint; waits for the device."""
        if self._rows.is_cuda:
            torch.cuda.synchronize(self._rows.device)
        windows = [(rows.tolist(), notes) for rows, _, notes in self._under_way]
        current = (self._rows[: self._written].tolist(), self._notes)
        return {
            "under_way": [_plain(rows, notes) for rows, notes in windows],
            "current": _plain(*current),
            "bad_in_a_row": self._streak.length,
            "streak": _plain([], self._streak.notes)["notes"],
        }

    def newest_sound(self, steps: Iterable[int]) -> int | None:
        """Of the steps the newest up to which all are known to be finite, but for those that were skipped on their own."""
        windows = (self._streak.notes, *(notes for _, _, notes in self._under_way), self._notes)
        doubtful = next((notes[0].step for notes in windows if notes), math.inf)
        return max((step for step in steps if step < doubtful), default=None)

    def load(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave, in place of all that is here."""
        self._under_way.clear()
        self._newest = None
        for window in state["under_way"]:
            rows, notes = _revived(window)
            self._under_way.append((torch.tensor(rows).reshape(-1, COLUMNS), None, notes))
        rows, self._notes = _revived(state["current"])
        kept = rows[: len(self._rows)]
        self._written = len(kept)
        self._notes = self._notes[: len(kept)]
        if kept:
            self._rows[: self._written].copy_(torch.tensor(kept))
        self._streak = Streak(int(state["bad_in_a_row"]), [StepNote(**note) for note in state.get("streak", ())])

    def _send(self) -> None:
        rows, notes = self._rows[: self._written], self._notes
        self._notes, self._written = [], 0
        if rows.is_cuda:
            host = torch.empty(rows.shape, pin_memory=True)
            host.copy_(rows, non_blocking=True)
            copied = torch.cuda.Event()
            copied.record()
            self._under_way.append((host, copied, notes))
        else:
            self._under_way.append((rows.clone(), None, notes))

    def _report(self, rows: list[list[float]], notes: list[StepNote]) -> Report:
        bad, streaks = [], []
        for (loss, norm, skipped), note in zip(rows, notes, strict=True):
            if skipped == BAD:
                bad.append(BadStep(note=note, loss=loss, grad_norm=norm))
                self._streak.add(note)
            elif skipped != OVERFLOW and self._streak.length:
                streaks.append(self._streak)
                self._streak = Streak()
        if self._streak.length:
            streaks.append(self._streak)
        good = [row for row in rows if not row[2]]
        values = {
            "loss": _mean([row[0] for row in good]),
            "grad_norm": _mean([row[1] for row in good]),
            "skipped": float(len(rows) - len(good)),
            "images": float(sum(note.images for note in notes)),
        }
        values |= {f"lr/{name}": rate for name, rate in notes[-1].rates.items()}
        return Report(
            step=notes[-1].step, epoch=notes[-1].epoch, values=values, bad=tuple(bad), streaks=tuple(streaks)
        )  # fmt: skip


def _mean(numbers: Sequence[float]) -> float:
    return math.fsum(numbers) / len(numbers) if numbers else math.nan


def _plain(rows: list[list[float]], notes: Sequence[StepNote]) -> dict[str, Any]:
    return {
        "rows": [[_word(number) for number in row] for row in rows],
        "notes": [asdict(note) | {"paths": list(note.paths), "rates": dict(note.rates)} for note in notes],
    }


def _revived(window: Mapping[str, Any]) -> tuple[list[list[float]], list[StepNote]]:
    return [[float(number) for number in row] for row in window["rows"]], [StepNote(**note) for note in window["notes"]]


def _word(number: float) -> float | str:
    """JSON has no word for NaN and infinity; `float` reads these back."""
    return number if math.isfinite(number) else str(number)
