"""The scaling section compares runs of one and of two real processes that take turns, and tells ours from DDP's part."""

import shutil
from pathlib import Path

import pytest

from benchmarks.bare_loop import WARM_UP
from benchmarks.messages import Interval, Said
from benchmarks.scaling import Turning, Work, compare, of_boundary, repeat, started, take_turns
from benchmarks.side_by_side import Triple


def triple(ours: float, loop: float, silent: float) -> Triple:
    """With twice as much CPU as wall."""
    return Triple(ours=(2 * ours, ours), loop=(2 * loop, loop), silent=(2 * silent, silent))


@pytest.mark.long
def test_runs_of_one_and_of_two_processes_take_turns(tmp_path: Path, model_folder: Path, picture_folder: Path) -> None:
    shutil.copytree(model_folder, tmp_path / "model")
    shutil.copytree(picture_folder, tmp_path / "data")
    repeat(tmp_path / "data", 100)
    one, two = take_turns(Work(model="demo", place=tmp_path, rounds=2), turns=1)
    assert (len(one), len(two)) == (2, 2)
    assert all(min(*step.ours, *step.loop, *step.silent) > 0 for step in (*one, *two))
    assert all(step.loop == step.silent for step in one)  # alone there is nobody to speak to
    assert all(step.loop != step.silent for step in two)
    assert {path.name for path in (tmp_path / "turns-2").glob("over-*")} == {
        f"over-{turn}-{rank}" for turn in (0, 1) for rank in (0, 1)
    }
    assert WARM_UP > 0


def test_what_is_of_two_runs_is_compared_turn_by_turn_and_what_is_of_one_step_by_step() -> None:
    one = [triple(2.0, 1.8, 1.8), triple(2.2, 1.8, 1.8)]
    two = [triple(1.4, 1.2, 1.0), triple(1.0, 1.0, 0.9)]
    found = {figure.name: figure for figure in compare("demo", one, two, rounds=2)}
    assert found["demo: pictures a second, 2 processes / 1: Signalbox"].value == pytest.approx(2.1 / 1.2)
    assert found["demo: pictures a second, 2 processes / 1: a plain DDP loop"].value == pytest.approx(1.8 / 1.1)
    assert found["demo: that gain, ours / the loop's"].value == pytest.approx((2.1 / 1.2) / (1.8 / 1.1))
    assert found["demo: CPU a picture, 2 processes / 1: Signalbox"].value == pytest.approx(1.2 / 2.1)
    beside = found["demo, 2 processes: ours / the loop, wall"]
    assert (beside.value, beside.at_most) == (pytest.approx((1.4 / 1.2 + 1.0) / 2), 1.02)
    assert found["demo, 2 processes: the loop / without exchange, wall"].value == pytest.approx((1.2 + 1 / 0.9) / 2)


def test_a_boundary_says_what_the_busiest_rank_says() -> None:
    quiet = Interval(
        step=5, calls={"ours all_gather": 2, "accelerate barrier": 9}, sent={"ours": 10, "accelerate": 900}
    )
    busy = Interval(step=5, calls={"ours all_gather": 2, "store get": 3}, sent={"ours": 10, "store": 40})
    said = [Said(gradient_bytes=1, intervals=(one,), connections={}) for one in (quiet, busy)]
    calls, sent = of_boundary("a step that logs", said, 2)
    assert (calls.value, sent.value) == (5, 50)
    assert calls.point is not None
    assert (calls.point.line, calls.point.at, calls.point.along) == ("a step that logs", 2, "processes")


def test_a_kind_of_boundary_may_take_two_steps() -> None:
    one = Interval(step=21, calls={"store set": 1}, sent={"store": 40})
    two = Interval(step=22, calls={"store set": 1, "ours all_gather": 2}, sent={"ours": 10})
    said = Said(gradient_bytes=1, intervals=(one, two), connections={})
    found = said.at("a request between these, and the meeting that it leads to")
    assert (found.calls, found.sent) == ({"store set": 2, "ours all_gather": 2}, {"store": 40, "ours": 10})


def test_a_run_that_ends_before_its_turn_is_told_with_its_last_words(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("[run]\nname = 7\n")
    with started(config, 2, (), tmp_path / "output.txt") as process:
        run = Turning(count=2, folder=tmp_path, process=process)
        with pytest.raises(RuntimeError, match=r"(?s)a run ended with 2: .*run\.name"):
            run.take(0)
