"""Numbers of several ranks are those of one process, told a window later, each once and none missing."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from core.ranks.crew import ONE, Crew
from core.step.metrics import BAD, MetricsRing, Report, StepNote
from tests.core.ranks.in_threads import ThreadCrew, each, places_of
from tests.core.ranks.plugins_for_equality import witnessed
from tests.small_runs import Run, reports

WINDOW = 2
SHARES = {1: (1.0,), 2: (0.5, 0.5), 3: (0.5, 0.25, 0.25)}
"""By number of ranks, the part of a loss of 1 that each has."""


class NumbersCrew(ThreadCrew):
    """Also rows go over the board; float32 survives that."""

    def add_rows(self, rows: Tensor) -> list[Tensor]:
        return [torch.tensor(found).reshape(-1, 3) for found in self.gather(rows.tolist())]


def test_two_processes_tell_what_one_tells_to_the_last_bit(alone: Run, together: Run) -> None:
    """Losses, norms, rates and images."""
    assert reports(together.folder) == reports(alone.folder)
    assert [line["step"] for line in reports(together.folder)] == [2, 4, 6, 7]


def test_a_window_is_told_when_the_next_is_full_and_the_last_ones_at_the_end(alone: Run, together: Run) -> None:
    """One process tells at the next boundary what has arrived."""
    told = [(line["step"], line["after"]) for line in witnessed(together.folder, "told", 0)]
    assert told == [(2, 4), (4, 6), (6, 7), (7, 7)]
    assert [line["after"] for line in witnessed(alone.folder, "told", 0)] == [3, 5, 7, 7]


def test_no_image_is_missing_from_what_is_told(together: Run) -> None:
    state: Any = together.state()["state"]
    assert sum(line["values"]["images"] for line in reports(together.folder)) == state["position"]["images"]


def test_what_was_not_told_yet_is_whole_in_a_checkpoint(alone: Run, together: Run) -> None:
    """The last checkpoint comes before the last report."""
    left, right = (Untold(run) for run in (together, alone))
    assert left.steps == [5, 6, 7]
    assert right.steps == [7]
    assert left.rows[-1] == right.rows[-1]
    window = reports(together.folder)[2]["values"]
    assert window["loss"] == math.fsum(loss for loss, _, _ in left.rows[:2]) / 2
    assert window["images"] == sum(left.images[:2])


class Untold:
    """The rows that a run's checkpoint holds."""

    def __init__(self, run: Run) -> None:
        state: Any = run.state()["state"]
        windows = [*state["metrics"]["under_way"], state["metrics"]["current"]]
        self.rows = [row for window in windows for row in window["rows"]]
        notes = [note for window in windows for note in window["notes"]]
        self.steps = [note["step"] for note in notes]
        self.images = [note["images"] for note in notes]


def test_a_loss_is_added_up_in_the_order_of_ranks() -> None:
    """As by one process over its rounds, in float32."""
    shares = torch.rand(3, generator=torch.Generator().manual_seed(0))
    by_one = torch.zeros(())
    for share in shares:
        by_one += share

    def take(crew: Crew) -> list[Report]:
        ring = MetricsRing(torch.device("cpu"), WINDOW, crew)
        return take_steps(ring, [1], shares[crew.rank]) + list(ring.landed(wait=True))

    for (report,) in on_ranks(3, take):
        assert report.values["loss"] == by_one.item()


def test_numbers_are_told_once_however_many_ranks_go_on() -> None:
    """One rank, then three, then two, each of which stops in the middle of a window and leaves its rows to the next."""
    told: list[Report] = []
    state: dict[str, Any] | None = None
    for count, steps in ((1, [1, 2, 3]), (3, [4, 5, 6, 7, 8]), (2, [9, 10, 11])):

        def go_on(crew: Crew, steps: Sequence[int] = steps, state: dict[str, Any] | None = state) -> Any:
            ring = MetricsRing(torch.device("cpu"), WINDOW, crew)
            if state is not None:
                ring.load(state)
            found = take_steps(ring, steps, torch.tensor(SHARES[crew.count][crew.rank]))
            left = ring.state()
            return found, left, list(ring.landed(wait=True))

        (found, state, rest), *others = on_ranks(count, go_on)
        assert all([one.values for one in other[0]] == [one.values for one in found] for other in others)
        told += found
    told += rest
    assert [report.step for report in told] == [2, 4, 6, 8, 10, 11]
    assert [report.values["loss"] for report in told] == [1.0] * 6
    assert sum(report.values["images"] for report in told) == 11


def test_a_step_that_was_not_finite_on_one_rank_is_told_with_the_files_of_all_also_from_a_checkpoint() -> None:
    def take(crew: Crew) -> Any:
        ring = MetricsRing(torch.device("cpu"), WINDOW, crew)
        take_steps(ring, [1], torch.tensor(math.nan if crew.rank else 0.5), bad=True, paths=[f"of rank {crew.rank}"])
        state = ring.state()
        return state, list(ring.landed(wait=True))

    for state, (report,) in on_ranks(2, take):
        (bad,) = report.bad
        assert bad.note.paths == ("of rank 0", "of rank 1")
        assert math.isnan(bad.loss)
        (row,), (note,) = state["current"]["rows"], state["current"]["notes"]
        assert row[2] == BAD
        assert note["paths"] == ["of rank 0", "of rank 1"]


def take_steps(
    ring: MetricsRing, steps: Sequence[int], loss: Tensor, *, bad: bool = False, paths: Sequence[str] = ()
) -> list[Report]:
    """As the trainer does: the step, then what has arrived, then the note of the step."""
    told: list[Report] = []
    for step in steps:
        ring.record(loss, torch.tensor(1.0), torch.tensor(bad))
        told += ring.landed()
        ring.note(StepNote(step=step, epoch=0, images=1, rates={"unet": 1.0}, paths=paths))
    return told


def on_ranks(count: int, work: Callable[[Crew], Any]) -> list[Any]:
    if count == 1:
        return [work(ONE)]
    with places_of(count) as places:
        return each([NumbersCrew(place) for place in places], work)
