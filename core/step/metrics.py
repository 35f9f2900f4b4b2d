"""Numbers on their way from the device to the host, without the training thread waiting for them (P9).

Each step writes a row of (loss, gradient norm, was it skipped) into a buffer on the device. A window of rows is copied in
one piece to pinned memory and read at a later step boundary, when the copy has arrived.

With several processes each has its own share of every loss. They exchange a window on the host when the next one is
full: a step that does not fill one sends nothing, and all of them tell the same numbers at the same boundary.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..ranks.crew import ONE, Crew

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

    def __init__(self, device: torch.device, window: int, crew: Crew = ONE) -> None:
        self._crew = crew
        self._rows = torch.zeros(window, COLUMNS, device=device)
        self._notes: list[StepNote] = []
        self._written = 0
        self._under_way: deque[Window] = deque()
        self._newest: tuple[Window, Streak] | None = None
        """The window of the newest report, and the streak before it."""
        self._streak = Streak()

    @property
    def is_full(self) -> bool:
        """Whether the step that was just taken fills the window."""
        return self._written == len(self._rows)

    def leave_crew(self) -> None:
        """Go on without the other ranks, one of which has ended; losses are then guessed from this rank's share."""
        if self._crew.are_several:
            share = torch.tensor([float(self._crew.count), 1.0, 1.0])
            self._rows *= share.to(self._rows.device)
            self._under_way = deque((rows * share, copied, notes) for rows, copied, notes in self._under_way)
            self._crew = ONE

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
        if self.is_full:
            self._send()

    def landed(self, *, wait: bool = False) -> Iterator[Report]:
        """Windows that have arrived since; with `wait` every row there is, which waits for the device.

        With several processes a collective: one that has arrived counts as not arrived until the next is full.
        """
        if wait and self._written:
            self._send()
        if self._crew.are_several and not (wait or self.is_full):
            return
        while self._under_way:
            rows, copied, notes = self._under_way[0]
            if copied is not None and not copied.query():
                if not (wait or self._crew.are_several):
                    return
                copied.synchronize()
            self._newest = self._under_way.popleft(), Streak(self._streak.length, list(self._streak.notes))
            merged = merge_rows(self._crew.add_rows(rows)).tolist()
            yield self._report(merged, self._notes_of_all(merged, notes))

    def put_back(self) -> None:
        """Have the newest report once more later, since nobody was told of it."""
        if self._newest is not None:
            window, self._streak = self._newest
            self._under_way.appendleft(window)
            self._newest = None

    def state(self) -> dict[str, Any]:
        """Rows that no report has told yet, for a checkpoint; waits for the device. A collective."""
        if self._rows.is_cuda:
            torch.cuda.synchronize(self._rows.device)
        return {
            "under_way": [self._of_all(rows, notes) for rows, _, notes in self._under_way],
            "current": self._of_all(self._rows[: self._written].cpu(), self._notes),
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
            self._under_way.append((torch.tensor(self._own(rows)).reshape(-1, COLUMNS), None, notes))
        rows, self._notes = _revived(state["current"])
        kept = self._own(rows[: len(self._rows)])
        self._written = len(kept)
        self._notes = self._notes[: len(kept)]
        if kept:
            self._rows[: self._written].copy_(torch.tensor(kept))
        self._streak = Streak(int(state["bad_in_a_row"]), [StepNote(**note) for note in state.get("streak", ())])

    def _of_all(self, rows: Tensor, notes: list[StepNote]) -> dict[str, Any]:
        """A window as all ranks together have it. A collective."""
        merged = merge_rows(self._crew.add_rows(rows)).tolist()
        return _plain(merged, self._notes_of_all(merged, notes))

    def _own(self, rows: list[list[float]]) -> list[list[float]]:
        """Of rows that hold the losses of all ranks: the main rank keeps them, so that their sum stays what it was."""
        return rows if self._crew.is_main else [[0.0, *rest] for _, *rest in rows]

    def _notes_of_all(self, rows: list[list[float]], notes: list[StepNote]) -> list[StepNote]:
        """With the files of every rank, where a step was not finite and they are going to be told."""
        if not self._crew.are_several or all(row[2] != BAD for row in rows):
            return notes
        found = self._crew.gather([list(note.paths) for note in notes])
        return [
            replace(note, paths=tuple(dict.fromkeys(path for paths in found for path in paths[place])))
            for place, note in enumerate(notes)
        ]

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


def merge_rows(ranks: Sequence[Tensor]) -> Tensor:
    """(R, 3) of all ranks together: losses are shares of one, norms are of all gradients and so the same on each.

    A step that one rank calls bad is bad, where the others see no more than an overflow.
    """
    merged = ranks[0].clone()
    for rows in ranks[1:]:
        merged[:, 0] += rows[:, 0]
        merged[:, 2] = torch.minimum(merged[:, 2], rows[:, 2])
    return merged


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
