"""MetricsFile keeps one line of JSON for each reported step, also over stops, kills and resumes."""

import json
import math
import signal
from pathlib import Path
from typing import Any

import pytest

from events.errors import PluginError
from events.testing import Harness, checkpoint_loaded, metrics_ready, run_info, run_start
from plugins.metrics_file import MetricsFile


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def steps(folder: Path) -> list[int]:
    return [line["step"] for line in lines(folder)]


def session(folder: Path, *told: int, resumed_step: int = 0, loss: float = 0.5) -> None:
    """One session of a run that reports these steps."""
    harness, run = Harness(MetricsFile()), run_info(folder)
    harness.emit("run.start", run_start(run=run, resumed_step=resumed_step))
    for step in told:
        harness.emit("metrics.ready", metrics_ready(run=run, step=step, epoch=step // 100, values={"loss": loss}))


def test_a_report_is_a_line_with_step_epoch_and_values(tmp_path: Path) -> None:
    session(tmp_path, 10, 120)
    assert lines(tmp_path) == [
        {"step": 10, "epoch": 0, "values": {"loss": 0.5}},
        {"step": 120, "epoch": 1, "values": {"loss": 0.5}},
    ]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_null(tmp_path: Path, value: float) -> None:
    session(tmp_path, 10, loss=value)
    assert lines(tmp_path)[0]["values"] == {"loss": None}


def test_a_resumed_run_drops_the_steps_it_takes_again(tmp_path: Path) -> None:
    session(tmp_path, 10, 20, 30, 40, loss=1.0)
    session(tmp_path, 30, 40, 50, resumed_step=20, loss=2.0)
    assert steps(tmp_path) == [10, 20, 30, 40, 50]
    assert [line["values"]["loss"] for line in lines(tmp_path)] == [1, 1, 2, 2, 2]


def test_a_step_that_is_told_again_after_resuming_keeps_one_line(tmp_path: Path) -> None:
    session(tmp_path, 10, 20)
    session(tmp_path, 20, 30, resumed_step=20)
    assert steps(tmp_path) == [10, 20, 30]


def test_a_run_that_begins_anew_in_its_folder_begins_with_an_empty_file(tmp_path: Path) -> None:
    session(tmp_path, 10, 20)
    session(tmp_path, 10)
    assert steps(tmp_path) == [10]


@pytest.mark.parametrize("rest", ['{"step": 20, "ep', "[]", '{"epoch": 1}', "garbage"])
def test_a_line_that_cannot_be_read_is_dropped(tmp_path: Path, rest: str) -> None:
    session(tmp_path, 10)
    with (tmp_path / "metrics.jsonl").open("a") as stream:
        stream.write(rest)
    session(tmp_path, 20, resumed_step=10)
    assert steps(tmp_path) == [10, 20]


def test_no_temporary_file_is_left(tmp_path: Path) -> None:
    session(tmp_path, 10)
    session(tmp_path, 20, resumed_step=10)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_run_that_goes_back_drops_the_steps_it_takes_again(tmp_path: Path) -> None:
    harness, run = Harness(MetricsFile()), run_info(tmp_path)
    for step in (10, 20, 30):
        harness.emit("metrics.ready", metrics_ready(run=run, step=step))
    harness.emit("checkpoint.loaded", checkpoint_loaded(run=run, step=15))
    harness.emit("metrics.ready", metrics_ready(run=run, step=20))
    assert steps(tmp_path) == [10, 20]


def test_a_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    import resource

    harness, run = Harness(MetricsFile()), run_info(tmp_path)
    harness.emit("metrics.ready", metrics_ready(run=run, step=10))
    before, limits = (tmp_path / "metrics.jsonl").read_text(), resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 5, limits[1]))
    try:
        with pytest.raises(PluginError, match="File too large"):
            harness.emit("metrics.ready", metrics_ready(run=run, step=20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert (tmp_path / "metrics.jsonl").read_text() == before
