"""RunReport leaves a page however the run ends, and its failing never fails the run."""

from collections.abc import Callable
from pathlib import Path

import pytest

from events.errors import PluginError
from tests.core.reading_pages import Page, assert_stands_alone
from tests.small_runs import Run, assert_same_state

TABLE = '\n[[plugins]]\nuse = "plugins.run_report.RunReport"\n'
FILE = '\n[[plugins]]\nuse = "plugins.metrics_file.MetricsFile"\n'
FAILING = '\n[[plugins]]\nuse = "tests.core.plugins_for_tests.Failing"\n'


def page_of(run: Run) -> Page:
    return Page(run.folder / "report.html")


def test_a_complete_run_has_one(train: Callable[..., Run]) -> None:
    done = train("train.steps=4", "preview.at_end=true", "validation.fraction=0.3", plugins=TABLE + FILE)
    page = page_of(done)
    assert_stands_alone(page)
    assert page.text_of("dd")[:2] == ["complete", "4 of 4"]
    assert {"Loss", "Validation loss", "Pictures a second"} <= {own["aria-label"] for own in page.all("svg")}
    assert len(page.pictures) == 2
    assert "RunReport" in page.text


def test_a_failed_one_has_one_with_the_error(train: Callable[..., Run], tmp_path: Path) -> None:
    with pytest.raises(PluginError):
        train("train.steps=4", plugins=TABLE + FAILING)
    page = Page(tmp_path / "runs" / "test" / "report.html")
    assert "It failed in training" in page.text
    assert "What goes on with it" in page.text


def test_a_run_that_went_on_has_that_of_its_end(train: Callable[..., Run]) -> None:
    train("train.steps=2", plugins=TABLE)
    done = train("train.steps=4", plugins=TABLE)
    assert "4 of 4" in page_of(done).text
    assert "which began at step 2" in page_of(done).text


def test_a_report_that_cannot_be_written_is_told_and_the_run_is_whole(
    train: Callable[..., Run], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (train("train.steps=2", plugins=TABLE).folder / "report.html").unlink()
    (tmp_path / "runs" / "test" / "report.html").mkdir()
    done = train("train.steps=4", plugins=TABLE)
    assert done.exit_code == 0
    assert "report.html: 1 problem\n  cannot be written: Is a directory" in caplog.text
    assert_same_state(done, train("run.name=whole", "train.steps=4", plugins=TABLE))
