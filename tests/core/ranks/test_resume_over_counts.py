"""A run goes on with another number of processes: with the same batches, and the same bits where a step has as many."""

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.core.ranks.conftest import DRAWING, NewRoom
from tests.core.ranks.launching import train_here, train_in_processes
from tests.core.ranks.plugins_for_equality import witnessed
from tests.core.ranks.test_equality import assert_equal
from tests.small_runs import Run, reports

STOP = '[[plugins]]\nuse = "tests.core.ranks.plugins_for_equality.StopBySignal"\nstep = {}\n'
STOPPED = 143


def stopping(room: Path, step: int) -> Path:
    """A config beside that of the room, whose runs are sent SIGTERM after a step."""
    path = room.with_name(f"stop-at-{step}.toml")
    path.write_text(room.read_text() + STOP.format(step))
    return path


@pytest.fixture(scope="module")
def resumed(drawing_room: Path) -> Run:
    """One process up to step 3, two up to step 5 or a little on, and one again to the end; 2 batches a step throughout."""
    name = "run.name=resumed"
    first = train_here(stopping(drawing_room, 3), name, "train.accumulate=2")
    assert first.exit_code == STOPPED
    second = train_in_processes(stopping(drawing_room, 5), name)
    assert second.exit_code == STOPPED, second.output
    state: Any = second.state()["state"]
    assert 5 <= state["position"]["step"] < 7
    return train_here(drawing_room, name, "train.accumulate=2")


def test_one_two_and_one_process_end_as_one_that_was_never_stopped(resumed: Run, alone: Run) -> None:
    """Stopped in the middle of epochs, by SIGTERM to one of the processes."""
    assert_equal(resumed, alone)


def test_each_window_of_numbers_is_told_once(resumed: Run, alone: Run) -> None:
    """Also those that were still to be exchanged when the run was stopped."""
    assert reports(resumed.folder) == reports(alone.folder)


def test_the_batches_are_those_of_the_run_that_was_never_stopped(resumed: Run, alone: Run) -> None:
    assert by_step(resumed, ranks=2) == by_step(alone, ranks=1)


def by_step(run: Run, *, ranks: int) -> dict[int, list[list[str]]]:
    """The batches of each step, of whatever ranks there were."""
    lines = [line for rank in range(ranks) for line in witnessed(run.folder, "trained", rank)]
    return {step: [batch for line in lines if line["step"] == step for batch in line["batches"]]
            for step in sorted({line["step"] for line in lines})}  # fmt: skip


@pytest.fixture(scope="module")
def regrouped(new_room: NewRoom) -> tuple[Run, Sequence[str]]:
    """Ten batches an epoch: three processes' worth of counts, each with its own number of batches a step; and what is said."""
    room = new_room("regrouped", DRAWING)
    settings = ("run.name=regrouped", "train.batch_size=1", "train.steps=9", "log.every_steps=3")
    said: list[str] = []
    handler = Listener(said)
    logging.getLogger("signalbox").addHandler(handler)
    try:
        assert train_here(stopping(room, 3), *settings).exit_code == STOPPED
        second = train_in_processes(stopping(room, 4), *settings)
        assert second.exit_code == STOPPED, second.output
        run = train_here(room, *settings)
    finally:
        logging.getLogger("signalbox").removeHandler(handler)
    return run, [second.output, *said]


class Listener(logging.Handler):
    """Keeps what is said."""

    def __init__(self, said: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._said = said

    def emit(self, record: logging.LogRecord) -> None:
        self._said.append(record.getMessage())


def test_with_other_batches_a_step_every_image_of_the_epoch_that_was_broken_comes_once(
    regrouped: tuple[Run, Sequence[str]],
) -> None:
    run, _ = regrouped
    lines = [line for rank in range(2) for line in witnessed(run.folder, "trained", rank)]
    images = Counter(image for line in lines if line["epoch"] == 0 for batch in line["batches"] for image in batch)
    assert len(images) == 10
    assert set(images.values()) == {1}


def test_its_steps_have_as_many_batches_as_the_epoch_began_with_or_the_next_number_that_divides(
    regrouped: tuple[Run, Sequence[str]],
) -> None:
    """One, then two, then one again."""
    run, _ = regrouped
    sizes = {step: len(batches) for step, batches in by_step(run, ranks=2).items()}
    assert [sizes[step] for step in (1, 2, 3, 4)] == [1, 1, 1, 2]
    assert set(sizes.values()) == {1, 2}
    assert sizes[max(sizes)] == 1


def test_a_warning_says_how_many_batches_the_steps_have_from_there_on(regrouped: tuple[Run, Sequence[str]]) -> None:
    _, (output, *said) = regrouped
    assert "2 processes go on with epoch 0, whose steps had 1 batches; they have 2 from here on" in output
    assert any("1 processes go on with epoch 0, whose steps had 2 batches; they have 1 from" in line for line in said)
