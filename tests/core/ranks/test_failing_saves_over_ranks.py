"""A checkpoint that cannot be written is one rank's trouble, and what `checkpoint.on_failure` says of it holds for all."""

from collections.abc import Callable
from typing import Any

import pytest

from core.checkpoint import manifest
from tests.core.ranks.conftest import NewRoom
from tests.core.ranks.launching import train_in_processes
from tests.core.ranks.plugins_for_control import noted
from tests.small_runs import Run

PLUGINS = """
[[plugins]]
use = "tests.core.ranks.plugins_for_control.Notes"
[[plugins]]
use = "tests.core.ranks.plugins_for_control.FullFolder"
failures = {}
"""
NEEDS = "checkpoint not saved: needs "
Trial = Callable[[str, int], Run]


@pytest.fixture
def trial(new_room: NewRoom) -> Trial:
    def run(policy: str, failures: int) -> Run:
        config = new_room("full", PLUGINS.format(failures))
        return train_in_processes(config, f"checkpoint.on_failure={policy}", "log.every_steps=1")

    return run


def steps_of(run: Run, rank: int, kind: str) -> list[Any]:
    return [note[1] for note in noted(run.folder, rank) if note[0] == kind]


def whole(run: Run) -> list[int]:
    found = sorted((run.folder / "checkpoints").glob("step-*"))
    assert all(manifest.problem_with(path) is None for path in found)
    return [manifest.step_of(path) for path in found]


def test_with_retry_all_go_on_and_save_again_later(trial: Trial) -> None:
    run = trial("retry", 1)
    assert run.exit_code == 0, run.output
    assert run.output.count(NEEDS) == 1
    assert run.output.count("training goes on, next attempt in") == 1
    for rank in (0, 1):
        assert steps_of(run, rank, "step") == list(range(1, 8))
        assert 4 not in steps_of(run, rank, "saved"), "that of step 4 failed"
        assert steps_of(run, rank, "saved") == steps_of(run, 0, "saved")
        assert steps_of(run, rank, "saved")[-1] == 7
    assert whole(run)[-1] == 7


def test_with_pause_all_wait_until_there_is_room_however_long_that_takes(trial: Trial) -> None:
    """It lasts longer than the others would wait without a sign of life."""
    run = trial("pause", 6)
    assert run.exit_code == 0, run.output
    assert run.output.count("training waits, next attempt in") == 6
    for rank in (0, 1):
        assert steps_of(run, rank, "saved") == [2, 4, 6, 7], "none is left out"
    assert whole(run)[-1] == 7


def test_with_stop_all_end_with_the_same_exit_code_and_the_cause_is_told_once(trial: Trial) -> None:
    run = trial("stop", 99)
    assert run.exit_code == 7, run.output
    assert run.output.count(NEEDS) == 1, run.output
    assert "The checkpoint before it stands; make room and run the same command" in run.output
    assert "Traceback" not in run.output
    assert whole(run) == [2]
