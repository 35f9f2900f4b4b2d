"""Results come in the order of their tasks whatever happens to the workers: those that die are replaced, or named."""

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from core.config.tables import DataTable
from core.data.workers import Workers
from core.errors import DataError
from events.payloads import SampleKey
from tests.core.rooms_for_tests import Room, RoomThatCannotTravel

Open = Callable[..., Workers[SampleKey, Any]]
SQUARES = [number * number for number in range(20)]


def keys(count: int) -> list[SampleKey]:
    return [SampleKey(0, item, 0, 0) for item in range(count)]


@pytest.fixture
def open_workers() -> Iterator[Open]:
    opened: list[Workers[SampleKey, Any]] = []

    def make(room: Room, *, workers: int = 2, **settings: Any) -> Workers[SampleKey, Any]:
        opened.append(Workers(room, DataTable(root=Path(), workers=workers, **settings)))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_results_come_in_order_over_and_over(open_workers: Open, workers: int) -> None:
    opened = open_workers(Room(), workers=workers)
    assert list(opened.over(keys(20))) == SQUARES
    assert list(opened.over(iter(keys(5)))) == SQUARES[:5]
    assert list(opened.over(())) == []


def test_what_was_asked_for_and_not_taken_is_dropped(open_workers: Open) -> None:
    opened = open_workers(Room())
    assert next(opened.over(keys(20))) == 0
    assert list(opened.over(keys(20)[10:])) == SQUARES[10:]


@pytest.mark.parametrize(
    ("trouble", "told"), [("SIGKILL", "killed by SIGKILL"), ("_exit", "code 3"), ("SIGSEGV", "killed by SIGSEGV")]
)
def test_a_worker_that_dies_is_replaced_and_the_results_are_the_same(
    open_workers: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture, trouble: str, told: str
) -> None:
    opened = open_workers(Room(trouble, at=7, marker=tmp_path / "died"))
    assert list(opened.over(keys(20))) == SQUARES
    [warning] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert told in warning
    assert "while it was at 7.png; another takes its place" in warning
    assert ("rooms_for_tests.py" in warning) is (trouble == "SIGSEGV")  # where it crashed


def test_each_of_several_that_die_is_replaced(open_workers: Open, caplog: pytest.LogCaptureFixture) -> None:
    opened = open_workers(Room(), prefetch=4)
    results = opened.over(keys(20))
    taken = []
    for number, result in enumerate(results):
        taken.append(result)
        if number in (2, 15):
            for worker in opened._workers:
                os.kill(worker.process.pid, signal.SIGKILL)
    assert taken == SQUARES
    assert 2 <= len(caplog.records) <= 4  # one whose last results had arrived is not missed


@pytest.mark.parametrize("trouble", ["SIGKILL", "_exit"])
def test_a_second_death_at_one_task_is_an_error_that_names_the_picture(open_workers: Open, trouble: str) -> None:
    opened = open_workers(Room(trouble, at=7), workers=1)
    results = opened.over(keys(20))
    assert [next(results) for _ in range(7)] == SQUARES[:7]
    with pytest.raises(DataError, match=r"while it was at 7\.png, and so did the one before it; take that picture out"):
        next(results)


def test_a_worker_that_hangs_ends_the_run_with_its_picture_and_its_stack(open_workers: Open) -> None:
    opened = open_workers(Room("sleep", at=3), timeout_seconds=1)
    results = opened.over(keys(20))
    assert [next(results) for _ in range(3)] == SQUARES[:3]
    begun = time.monotonic()
    with pytest.raises(DataError, match=r"has been at 3\.png for longer than data\.timeout_seconds = 1") as caught:
        next(results)
    opened.close()
    assert time.monotonic() - begun < 1 + 2 + 3  # three more for a machine that is busy
    assert "in sleep_for_ever" in str(caught.value)


@pytest.mark.parametrize(
    ("trouble", "told"), [("odd exception", "('odd', <function"), ("odd result", "lambda"), ("exit", "enough")]
)
def test_what_cannot_travel_comes_as_text(open_workers: Open, trouble: str, told: str) -> None:
    results = open_workers(Room(trouble, at=1), workers=1).over(keys(3))
    assert next(results) == 0
    with pytest.raises(RuntimeError) as caught:
        next(results)
    assert told in str(caught.value)


def test_a_room_that_cannot_be_opened_in_a_worker_is_told(open_workers: Open) -> None:
    with pytest.raises(RuntimeError, match="no such plugin here"):
        list(open_workers(RoomThatCannotTravel(), workers=1).over(keys(3)))


def test_closing_does_not_wait_for_a_worker_that_is_at_something_long(open_workers: Open) -> None:
    opened = open_workers(Room("sleep", at=2))
    results = opened.over(keys(20))
    assert next(results) == 0
    pids = [worker.process.pid for worker in opened._workers]
    begun = time.monotonic()
    opened.close()
    assert time.monotonic() - begun < 1 + 3
    assert not any(
        Path(f"/proc/{pid}").exists() and b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids
    )
