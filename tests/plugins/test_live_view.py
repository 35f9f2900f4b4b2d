"""LiveView serves a page about the run, notes how far it is, and hands over what is asked for."""

import json
import logging
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from core.run_folder.control_files import ask, take
from events.control import Control
from events.errors import AttachError
from events.plugin import PluginTable
from events.testing import Harness, metrics_context, progress, run_info, run_start
from plugins.live_view import LiveView, Throughput
from plugins.loading import build_plugin
from tests.small_runs import Run, assert_same, reports

SECONDS = 30.0


def table(**settings: Any) -> PluginTable:
    return PluginTable(use="plugins.live_view.LiveView", name="LiveView", position=0, settings=settings)


class Seldom(LiveView):
    note_seconds = math.inf


def noted(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "record" / "now.json").read_text())
    return found


def test_the_page_is_there_while_the_run_goes_on_and_its_token_on_the_screen_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    chosen = {"port": 0, "token": "only-for-you"}
    with caplog.at_level(logging.DEBUG), Harness(build_plugin(table(**chosen))) as harness:
        harness.emit("run.start", run_start(run=run_info(tmp_path)))
        said, until = "", time.monotonic() + SECONDS
        while "\n" not in said and time.monotonic() < until:
            time.sleep(0.02)
            said += capsys.readouterr().err
        assert said.startswith("live view: http://127.0.0.1:")
        url, _, token = said.strip().partition("live view: ")[2].partition("#token=")
        assert token == "only-for-you"
        with urlopen(url) as answer:
            assert answer.status == 200
    assert url in caplog.text
    assert "only-for-you" not in caplog.text
    with pytest.raises(OSError, match="refused"):
        urlopen(url)


def test_requests_are_handed_over_in_the_name_of_the_plugin(tmp_path: Path) -> None:
    run, control = run_info(tmp_path), Control()
    with Harness(build_plugin(table(port=0))) as harness:
        harness.emit("run.start", run_start(run=run, control=control))
        ask(tmp_path, "preview", reason="to see it")
        harness.emit("progress", progress(run=run))
    (request,) = control.take("preview")
    assert (request.asker, request.reason) == ("LiveView", "to see it")


def test_what_was_asked_for_before_the_run_began_is_forgotten(tmp_path: Path) -> None:
    ask(tmp_path, "stop")
    with Harness(build_plugin(table(port=0))) as harness:
        harness.emit("run.start", run_start(run=run_info(tmp_path)))
        assert take(tmp_path) == []


def test_how_far_the_run_is_is_noted_now_and_then(tmp_path: Path) -> None:
    run = run_info(tmp_path)
    with Harness(Seldom()) as harness:
        for step in (10, 20):
            harness.emit("progress", progress(run=run, step=step, loss=math.inf))
    assert (noted(tmp_path)["step"], noted(tmp_path)["loss"]) == (10, None)


def test_the_end_of_the_run_is_noted_always(tmp_path: Path) -> None:
    run = run_info(tmp_path)
    with Harness(Seldom()) as harness:
        for step in (10, 100):
            harness.emit("progress", progress(run=run, step=step))
    assert noted(tmp_path)["step"] == 100


def test_the_times_of_all_handlers_are_in_it(tmp_path: Path) -> None:
    harness = Harness(LiveView())
    harness.bus.time_handlers()
    with harness:
        harness.emit("progress", progress(run=run_info(tmp_path), step=100))
    assert "LiveView.take_requests" in [one["handler"] for one in noted(tmp_path)["times"]]


def test_a_disk_that_takes_nothing_ends_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "record").write_text("in the way")
    with Harness(LiveView()) as harness:
        for _ in range(3):
            harness.emit("progress", progress(run=run_info(tmp_path), step=100))
    assert caplog.text.count("how far the run is cannot be written") == 1


def test_throughput_counts_the_time_of_training_alone() -> None:
    throughput = Throughput()
    assert throughput.take({"images": 99.0, "time/steps": 1.0}, 100.0) is None
    assert throughput.take({"images": 40.0, "time/steps": 0.4, "time/data": 0.1}, 110.0) == pytest.approx(8)
    assert throughput.take({"images": 5.0, "time/steps": 1.0}, 110.1) is None  # several reports came at once
    assert throughput.take({"images": 5.0, "time/steps": 1.0}, 111.1) == pytest.approx(10 / 1.1)


def test_a_report_without_a_rate_stays_as_it_is(tmp_path: Path) -> None:
    with Harness(LiveView()) as harness:
        assert harness.apply("metrics.record", {"loss": 0.5}, metrics_context()) == {"loss": 0.5}


def test_the_packages_it_needs_are_named_when_it_is_attached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "starlette", None)
    with pytest.raises(AttachError, match="starlette is not installed; pip install starlette"):
        build_plugin(table())


@pytest.mark.parametrize("settings", [{"token": "short"}, {"token": "with a space"}, {"port": -1}, {"port": 70000}])
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(AttachError):
        build_plugin(table(**settings))


def test_a_run_with_it_takes_the_steps_that_it_takes_without(train: Callable[..., Run]) -> None:
    alone, watched = (
        train(f"run.name={name}", plugins=METRICS + view) for name, view in (("alone", ""), ("watched", VIEW))
    )
    assert reports(watched.folder) == reports(alone.folder)
    assert_same({**watched.state(), "state": {}}, {**alone.state(), "state": {}})  # whose plans differ
    assert noted(watched.folder)["step"] == 7


METRICS = '\n[[plugins]]\nuse = "plugins.metrics_file.MetricsFile"\n'
VIEW = '\n[[plugins]]\nuse = "plugins.live_view.LiveView"\nport = 0\n'
