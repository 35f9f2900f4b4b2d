"""MetricsCsv keeps a table that a spreadsheet opens: a row for each report, over stops, kills and resumes."""

import csv
import math
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from events.testing import Harness, checkpoint_loaded, metrics_ready, run_info, run_start, validation_end
from plugins.metrics_csv import MetricsCsv


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, strict=True))


def steps(folder: Path) -> list[int]:
    return [int(row["step"]) for row in rows(folder)]


def session(folder: Path, *told: int, resumed_step: int = 0, values: Mapping[str, float] | None = None) -> None:
    """One session of a run that reports these steps."""
    harness, run = Harness(MetricsCsv()), run_info(folder)
    harness.emit("run.start", run_start(run=run, resumed_step=resumed_step))
    for step in told:
        values = {"loss": 0.5} if values is None else values
        harness.emit("metrics.ready", metrics_ready(run=run, step=step, epoch=step // 100, values=values))


def test_a_report_is_a_row_under_the_names(tmp_path: Path) -> None:
    session(tmp_path, 10, 120, values={"loss": 0.5, "lr/unet": 1e-5})
    assert (tmp_path / "metrics.csv").read_text() == "step,epoch,loss,lr/unet\n10,0,0.5,1e-05\n120,1,0.5,1e-05\n"


def test_a_name_that_appears_later_has_the_last_column_and_the_others_keep_theirs(tmp_path: Path) -> None:
    harness, run = Harness(MetricsCsv()), run_info(tmp_path)
    for step, values in ((1, {"loss": 0.5}), (2, {"system/gpu": 9.0, "loss": 0.25}), (3, {"loss": 0.125})):
        harness.emit("metrics.ready", metrics_ready(run=run, step=step, values=values))
    text = (tmp_path / "metrics.csv").read_text()
    assert text == "step,epoch,loss,system/gpu\n1,0,0.5,\n2,0,0.25,9.0\n3,0,0.125,\n"
    assert os.listdir(tmp_path) == ["metrics.csv"]


def test_a_name_with_a_comma_and_quotes_is_one_column(tmp_path: Path) -> None:
    session(tmp_path, 1, values={'loss, "mean"': 0.5})
    assert rows(tmp_path) == [{"step": "1", "epoch": "0", 'loss, "mean"': "0.5"}]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_empty(tmp_path: Path, value: float) -> None:
    session(tmp_path, 10, values={"loss": value})
    assert rows(tmp_path)[0]["loss"] == ""


def test_a_validation_has_a_row_with_columns_of_its_own(tmp_path: Path) -> None:
    harness, run = Harness(MetricsCsv()), run_info(tmp_path)
    harness.emit("metrics.ready", metrics_ready(run=run, step=10, values={"loss": 0.5}))
    harness.emit("validation.end", validation_end(run=run, step=10, losses={"held_out": 0.75}))
    harness.emit("validation.end", validation_end(run=run, step=20, losses={}))  # it failed
    assert [tuple(row.values()) for row in rows(tmp_path)] == [("10", "0", "0.5", ""), ("10", "0", "", "0.75")]


def test_a_resumed_run_drops_the_steps_it_takes_again(tmp_path: Path) -> None:
    session(tmp_path, 10, 20, 30, 40, values={"loss": 1.0})
    session(tmp_path, 30, 40, 50, resumed_step=20, values={"loss": 2.0})
    assert steps(tmp_path) == [10, 20, 30, 40, 50]
    assert [row["loss"] for row in rows(tmp_path)] == ["1.0", "1.0", "2.0", "2.0", "2.0"]


def test_the_columns_stay_what_they_were_over_a_resume(tmp_path: Path) -> None:
    session(tmp_path, 10, values={"loss": 1.0, "lr/unet": 0.1})
    session(tmp_path, 20, resumed_step=10, values={"lr/unet": 0.1, "new": 3.0, "loss": 2.0})
    assert (tmp_path / "metrics.csv").read_text().splitlines() == [
        "step,epoch,loss,lr/unet,new", "10,0,1.0,0.1,", "20,0,2.0,0.1,3.0",
    ]  # fmt: skip


def test_a_step_that_is_told_again_after_resuming_keeps_one_row(tmp_path: Path) -> None:
    session(tmp_path, 10, 20)
    session(tmp_path, 20, 30, resumed_step=20)
    assert steps(tmp_path) == [10, 20, 30]


def test_a_validation_at_the_step_that_is_resumed_from_does_not_stand_for_its_report(tmp_path: Path) -> None:
    run = run_info(tmp_path)
    with Harness(MetricsCsv()) as harness:
        harness.emit("metrics.ready", metrics_ready(run=run, step=10))
        harness.emit("validation.end", validation_end(run=run, step=20))
    with Harness(MetricsCsv()) as harness:
        harness.emit("run.start", run_start(run=run, resumed_step=20))
        harness.emit("metrics.ready", metrics_ready(run=run, step=20))
    assert steps(tmp_path) == [10, 20, 20]


def test_a_run_that_begins_anew_in_its_folder_begins_with_an_empty_table(tmp_path: Path) -> None:
    session(tmp_path, 10, 20)
    session(tmp_path, 10)
    assert steps(tmp_path) == [10]


def test_a_run_that_goes_back_drops_the_steps_it_takes_again(tmp_path: Path) -> None:
    harness, run = Harness(MetricsCsv()), run_info(tmp_path)
    for step in (10, 20, 30):
        harness.emit("metrics.ready", metrics_ready(run=run, step=step))
    harness.emit("checkpoint.loaded", checkpoint_loaded(run=run, step=15))
    harness.emit("metrics.ready", metrics_ready(run=run, step=20))
    assert steps(tmp_path) == [10, 20]


@pytest.mark.parametrize("rest", ["5,0", "5,0,0.5", "5,0,0.5,7\n", "5,0\n", "garbage,0,0.5\n", ",,\n", '"'])
def test_a_row_that_is_not_whole_is_dropped(tmp_path: Path, rest: str) -> None:
    session(tmp_path, 10)
    with (tmp_path / "metrics.csv").open("a") as stream:
        stream.write(rest)
    session(tmp_path, 20, resumed_step=10)
    assert steps(tmp_path) == [10, 20]


@pytest.mark.parametrize("text", ["", "step,ep", "no table\n1\n"])
def test_a_file_that_is_no_such_table_is_begun_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.csv").write_text(text)
    session(tmp_path, 20, resumed_step=10)
    assert (tmp_path / "metrics.csv").read_text() == "step,epoch,loss\n20,0,0.5\n"
