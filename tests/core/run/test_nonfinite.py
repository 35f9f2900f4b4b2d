"""Steps that are not finite are told in full, counted over reports and restarts, and taken back where that is wanted."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from core.errors import NonFiniteError
from core.resuming.position import Position
from core.step.metrics import MetricsRing, Report, StepNote
from tests.small_runs import Run, assert_same_state

NAN = float("nan")
SPOIL = '\n[[plugins]]\nuse = "tests.faults.plugins_for_numerics.{kind}"\nname = "Subject"\nplaces = [[1, 1], [1, 2]]\n'
EMA = '\n[[plugins]]\nuse = "plugins.ema.Ema"\ndevice = "{device}"\n'
REWIND = ("train.on_nonfinite=rewind", "train.max_skipped=2", "train.steps=7", "log.every_steps=1")


def told(ring: MetricsRing, *losses: float, first: int = 1) -> list[Report]:
    """What the ring reports after steps with these losses."""
    reports = []
    for step, loss in enumerate(losses, first):
        value = torch.tensor(loss)
        ring.record(value, torch.tensor(1.5), ~value.isfinite())
        ring.note(StepNote(step=step, epoch=0, images=4, rates={}, paths=(f"{step}.png",), batch=step - 1))
        reports += ring.landed()
    return reports


def ring(window: int = 3) -> MetricsRing:
    return MetricsRing(torch.device("cpu"), window)


def steps(report: Report) -> list[list[int]]:
    return [[note.step for note in streak.notes] for streak in report.streaks]


def test_a_bad_step_is_reported_with_its_numbers() -> None:
    (report,) = told(ring(), 0.5, NAN, 0.5)
    assert [(bad.note.step, str(bad.loss), bad.grad_norm) for bad in report.bad] == [(2, "nan", 1.5)]


def test_a_streak_goes_on_from_one_report_to_the_next() -> None:
    first, second = told(ring(), 0.5, NAN, NAN, NAN, 0.5, NAN)
    assert steps(first) == [[2, 3, 4]], "the streak of the first report has gone on"
    assert steps(second) == [[2, 3, 4], [6]]
    assert [streak.length for streak in second.streaks] == [3, 1]


def test_a_streak_outlives_a_restart() -> None:
    before, after = ring(), ring()
    told(before, 0.5, NAN, NAN, NAN)
    after.load(json.loads(json.dumps(before.state())))
    (report,) = told(after, 0.5, 0.5, first=5)
    assert steps(report) == [[2, 3, 4]]


def test_what_an_older_version_stored_of_a_streak_is_its_length() -> None:
    one = ring(2)
    state = one.state() | {"bad_in_a_row": 4}
    del state["streak"]
    one.load(state)
    (report,) = told(one, NAN, 0.5)
    assert report.streaks[0].length == 5


def test_taking_a_state_back_forgets_what_came_after() -> None:
    one = ring()
    state = one.state()
    told(one, 0.5, NAN)
    one.load(state)
    assert one.state() == state


@pytest.mark.parametrize(("losses", "sound"), [((), 4), ((0.5,), 0), ((0.5, NAN, 0.5), 4), ((0.5, NAN, NAN, NAN), 1)])
def test_the_newest_sound_checkpoint_is_from_before_anything_that_is_not_known_to_be_finite(
    losses: tuple[float, ...], sound: int
) -> None:
    one = ring()
    told(one, *losses)
    assert one.newest_sound([0, 1, 2, 3, 4]) == sound


def test_a_position_of_an_older_version_leaves_nothing_out() -> None:
    state = Position(step=3).state()
    del state["left_out"]
    assert not Position.from_state(state).is_left_out


def test_what_is_left_out_is_stored_and_forgotten_with_its_epoch() -> None:
    at = Position(epoch=1, batches_done=2, left_out=[(1, 2), (2, 0)])
    at = Position.from_state(json.loads(json.dumps(at.state())))
    assert at.is_left_out
    at.end_epoch()
    assert at.left_out == [(2, 0)]


@pytest.mark.parametrize("device", ["same", "cpu"])
def test_going_back_ends_with_the_bits_of_a_run_that_left_the_batches_out(
    train: Callable[..., Run], device: str
) -> None:
    """Weights, optimizer and averages, wherever these are kept."""
    average = EMA.format(device=device)
    back = train(*REWIND, plugins=average + SPOIL.format(kind="Spoil"))
    out = train("run.name=out", *REWIND, plugins=average + SPOIL.format(kind="LeaveOut"))
    assert_same_state(back, out, but="plan")


def test_metrics_of_steps_that_were_taken_back_are_told_once(train: Callable[..., Run], tmp_path: Path) -> None:
    plugins = EMA.format(device="same") + '\n[[plugins]]\nuse = "plugins.metrics_file.MetricsFile"\n'
    run = train(*REWIND, plugins=plugins + SPOIL.format(kind="Spoil"))
    lines: list[Any] = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6, 7]
    assert all(line["values"]["loss"] is not None for line in lines)


def test_the_second_time_to_the_same_checkpoint_is_one_too_many(train: Callable[..., Run]) -> None:
    everything = "[" + ", ".join(f"[{epoch}, {step}]" for epoch in range(1, 9) for step in range(3)) + "]"
    spoil = SPOIL.format(kind="Spoil").replace("[[1, 1], [1, 2]]", everything)
    with pytest.raises(NonFiniteError, match="had gone back to step 2 already") as caught:
        train(*REWIND, plugins=EMA.format(device="same") + spoil)
    assert caught.value.exit_code == 5
