"""Validation is split over ranks: the losses are those of one process to the last bit, and what one meets all hear of."""

import json
from pathlib import Path
from typing import Any

import pytest

from core.data.table import ItemTable
from tests.core.ranks.launching import train_in_processes
from tests.core.ranks.plugins_for_split import NOTES, noted
from tests.small_runs import CONFIG, Run

HERE = '[[plugins]]\nuse = "tests.core.ranks.plugins_for_split.{}"\n'
SETTINGS = ("train.steps=3", "train.batch_size=2", "validation.fraction=0.3", "validation.every_steps=2",
            "validation.repeats=3")  # fmt: skip
"""Five pictures in three batches, so that one of two ranks has two and the other one."""


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, picture_folder: Path) -> Path:
    """A folder with the configs."""
    folder = tmp_path_factory.mktemp("validation")
    values = {"dir": folder / "runs", "model": model_folder, "data": picture_folder, "cache": folder / "cache"}
    config = CONFIG.format(**{key: json.dumps(str(value)) for key, value in values.items()})
    for name in ("Disturbing", "Fails"):
        (folder / f"{name}.toml").write_text(config + HERE.format("Witness") + HERE.format(name))
        (folder / name).mkdir()
    return folder


def train(room: Path, plugin: str, *overrides: str, count: int) -> Run:
    environment = {NOTES: str(room / plugin)}
    return train_in_processes(
        room / f"{plugin}.toml", *SETTINGS, f"run.name={plugin}-{count}", *overrides, count=count, environment=environment
    )  # fmt: skip


@pytest.fixture(scope="module")
def one(room: Path) -> Run:
    """One process, with the same batches in each step."""
    return train(room, "Disturbing", "train.accumulate=2", count=1)


@pytest.fixture(scope="module")
def two(room: Path) -> Run:
    return train(room, "Disturbing", count=2)


def measured(run: Run) -> list[Any]:
    """(step, loss) as the checkpoint has it."""
    state: Any = run.state()["state"]
    losses: list[Any] = state["validation"]["held_out"]
    return losses


def test_the_losses_are_those_of_one_process_to_the_last_bit(one: Run, two: Run) -> None:
    assert (one.exit_code, two.exit_code) == (0, 0), one.output + two.output
    assert [step for step, _ in measured(one)] == [0, 2, 3]
    assert measured(two) == measured(one)


def test_every_rank_is_told_the_same_losses(two: Run) -> None:
    main, other = noted(two.folder, 0), noted(two.folder, 1)
    assert main["validation.start"] == other["validation.start"]
    assert main["validation.end"] == other["validation.end"]
    assert [[step, losses["held_out"]] for step, losses in main["validation.end"]] == measured(two)
    assert main["validation.start"][0] == [0, {"held_out": 5}]


def test_each_picture_is_measured_by_one_rank(room: Path, two: Run) -> None:
    held_out = {item.id for item in ItemTable.open(two.folder / "items" / "validation.held_out")}
    made = [set((room / "Disturbing" / f"pictures-{rank}-of-2").read_text().split()) & held_out for rank in range(2)]
    assert sorted(map(len, made)) in ([1, 4], [2, 3])
    assert not made[0] & made[1]
    assert made[0] | made[1] == held_out


def test_a_rank_that_fails_is_heard_of_by_all_and_no_handler_waits_in_vain(room: Path) -> None:
    run = train(room, "Fails", "distributed.timeout_seconds=60", count=2)
    assert run.exit_code == 6, run.output
    assert run.output.count("rank 1 ends the run:\nplugin Fails failed in Fails.meet") == 1, run.output
    for rank in range(2):
        told = noted(run.folder, rank)
        assert told["validation.end"] == [[0, {}]]
        assert told["who was at validation.end"] == [[0, 1]]
