"""Of several processes each bundled plugin writes, tells and asks on the main one alone, and changes the run on all of them."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from events import Notification, Plugin
from events.bus import Bus
from events.testing import (
    GivenRanks,
    Harness,
    cache_end,
    checkpoint_loaded,
    checkpoint_saved,
    checkpoint_start,
    control_applied,
    data_ready,
    epoch_end,
    epoch_start,
    export_end,
    metrics_context,
    metrics_ready,
    preview_end,
    progress,
    run_close,
    run_end,
    run_error,
    run_info,
    run_start,
    validation_end,
)
from plugins.monitor import Monitor
from tests.events.conftest import table_of
from tests.plugins.bundled_plugins import KINDS
from tests.plugins.test_bundled import build, each_plugin

ON_ALL = {
    "Ema": {"begin", "swap_in", "swap_in_to_validate", "swap_out"},
    "LearningRateFinder": {"begin"},
    "LossByImage": {"gather", "read", "bring_together", "bring_together_now_and_then"},
    "PromptRecall": {"note_background", "measure"},
    "TextualInversion": {"remember"},
}
"""By plugin, handlers that look on and are needed on every rank: they change what is trained, or have a share of the work."""
ON_MAIN = {
    "AccumulationRamp", "EarlyStop", "ExampleLoggingPlugin", "Interactive", "KeepBest", "LiveView", "Lora", "MetricsCsv",
    "MetricsFile", "Monitor", "PreviewEvolution", "ProgressBar", "Rhythm", "RollingCheckpoint", "RunReport", "TensorBoard",
    "Upload", "Webhook", "WeightsAndBiases",
}  # fmt: skip
"""Those that write, tell or ask, which is done once."""


class Alike(GivenRanks):
    """Every rank says the same."""

    def gather(self, value: Any) -> list[Any]:
        return [value] * self.count


def looking_on(bus: Bus) -> Iterator[Any]:
    """Handlers that look on."""
    return (one for signal in bus.signals if isinstance(signal.spec, Notification) for one in signal.planned)


@each_plugin
def test_what_looks_on_runs_on_the_main_rank_but_for_what_every_rank_needs(kind: type[Plugin]) -> None:
    plugin, bus = build(kind), Bus(ranks=GivenRanks(1, 2))
    bus.attach([(plugin, table_of(plugin))])
    attached = {one.label.rpartition(".")[2] for one in looking_on(bus) if one.ranks == "all"}
    assert attached == ON_ALL.get(kind.__name__, set())
    left = {one.label.rpartition(".")[2] for one in looking_on(bus) if one.ranks == "main"}
    assert not attached & left, "a method of several signals runs in the same place at each"
    here = {one.label.rpartition(".")[2] for signal in bus.signals for one in signal.handlers
            if isinstance(signal.spec, Notification)}  # fmt: skip
    assert here == attached


def test_of_each_plugin_that_looks_on_it_has_been_decided_where_it_runs() -> None:
    handling = set()
    for kind in KINDS:
        plugin, bus = build(kind), Bus()
        bus.attach([(plugin, table_of(plugin))])
        if any(looking_on(bus)):
            handling.add(kind.__name__)
    assert handling == ON_MAIN | ON_ALL.keys()


@each_plugin
def test_on_another_rank_it_leaves_and_tells_nothing(
    kind: type[Plugin], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither in handlers nor when it is asked, closed, or has its state taken, which happens on every rank."""
    plugin = build(kind)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    run, threads = run_info(tmp_path / "run"), set(threading.enumerate())
    settings: dict[str, Any] = {"train": {"learning_rate": 1e-4}}
    with Harness(plugin, ranks=Alike(1, 2)) as harness:
        list(plugin.check())
        for signal, event in (
            ("run.start", run_start(run=run, config=settings)),
            ("data.ready", data_ready(run=run)),
            ("cache.end", cache_end()),
            ("checkpoint.loaded", checkpoint_loaded(run=run, path=tmp_path / "step-7")),
            ("epoch.start", epoch_start(run=run)),
            ("metrics.ready", metrics_ready(run=run)),
            ("control.applied", control_applied()),
            ("epoch.end", epoch_end(run=run)),
            ("validation.end", validation_end(run=run)),
            ("preview.end", preview_end(run=run)),
            ("checkpoint.start", checkpoint_start(run=run)),
            ("checkpoint.saved", checkpoint_saved(run=run, path=tmp_path / "step-7")),
            ("export.end", export_end(run=run)),
            ("run.error", run_error(run=run)),
            ("run.end", run_end(run=run)),
            ("run.close", run_close(run=run)),
            ("progress", progress(run=run, step=100)),
        ):
            harness.emit(signal, event)
        assert harness.asked == []
        plugin.state_dict()
    assert list(tmp_path.rglob("*")) == [tmp_path / "run"]
    assert set(threading.enumerate()) <= threads
    assert capfd.readouterr() == ("", "")


def test_monitor_reads_the_machine_on_the_main_rank_alone() -> None:
    """Nobody would see what the others read."""
    read = {rank: Harness(Monitor(Monitor.Settings(seconds=0.0)), ranks=GivenRanks(rank, 2)) for rank in (0, 1)}
    values = {rank: harness.apply("metrics.record", {"loss": 0.5}, metrics_context()) for rank, harness in read.items()}
    assert values[1] == {"loss": 0.5}
    assert len(values[0]) > 1
