"""Each moment of a session belongs to one kind, and together the kinds are its wall time; metrics have their shares."""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from core.timing.spent import TIME, TimeSpent
from events.bus import Bus
from events.testing import Harness
from events.timing import Tally
from tests.core.plugins_for_time import Sleeper, clock
from tests.small_runs import Run

METRICS = '\n[[plugins]]\nuse = "plugins.metrics_file.MetricsFile"\n'


@pytest.fixture
def at_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time passes when a test says so."""
    clock.now = 100.0
    for module in ("core.timing.spent", "events.timing"):
        monkeypatch.setattr(f"{module}.perf_counter", lambda: clock.now)


@pytest.fixture
def bus(at_rest: None) -> Bus:
    bus = Harness(Sleeper()).bus
    bus.time_handlers()
    return bus


def taken(spent: TimeSpent) -> dict[str, float]:
    """Kinds that took any time."""
    return {kind: seconds for kind, seconds in spent.seconds().items() if seconds}


def test_a_moment_belongs_to_the_innermost_kind(bus: Bus) -> None:
    spent = TimeSpent(bus)
    clock.now += 1
    with spent.on("previews"):
        clock.now += 2
        with spent.on("device"):
            clock.now += 4
        clock.now += 8
    clock.now += 16
    assert taken(spent) == {"other": 17, "previews": 10, "device": 4}


def test_a_kind_ends_when_something_is_raised_in_it(bus: Bus) -> None:
    spent = TimeSpent(bus)
    with suppress(ValueError), spent.on("steps"):
        clock.now += 1
        raise ValueError
    clock.now += 2
    assert taken(spent) == {"steps": 1, "other": 2}


def test_what_handlers_take_is_that_of_plugins_wherever_they_are_called(bus: Bus) -> None:
    spent = TimeSpent(bus)
    with spent.on("previews"):
        clock.now += 1
        Sleeper.fire(bus, seconds=5)
    Sleeper.fire(bus, seconds=2)
    assert taken(spent) == {"previews": 1, "plugins": 7}
    assert spent.plugin_seconds() == {"Sleeper": 7}


def test_handlers_before_the_session_are_not_of_it(bus: Bus) -> None:
    Sleeper.fire(bus, seconds=5)
    spent = TimeSpent(bus)
    clock.now += 1
    assert taken(spent) == {"other": 1}


def test_waiting_for_room_in_a_lane_is_not_the_plugins_own_time(bus: Bus) -> None:
    spent = TimeSpent(bus)
    lane = bus.lanes.open("Sleeper")
    Sleeper.fire(bus, seconds=5, meanwhile=lambda: setattr(lane, "blocked_seconds", 3.0))
    with spent.on("lanes blocked"):
        clock.now += 1
    assert taken(spent) == {"plugins": 2, "lanes blocked": 4}
    assert spent.plugin_seconds() == {"Sleeper": 2}


def test_it_is_known_too_where_handlers_are_not_timed(at_rest: None) -> None:
    bus = Harness(Sleeper()).bus
    spent = TimeSpent(bus)
    with spent.on("checkpoints"):
        clock.now += 5
        bus.lanes.open("Sleeper").blocked_seconds = 3.0
    assert taken(spent) == {"checkpoints": 2, "lanes blocked": 3}


def test_what_workers_tell_ran_beside(bus: Bus) -> None:
    spent = TimeSpent(bus)
    clock.now += 1
    bus.add_tally(("Sleeper", "sample.caption", "Sleeper.caption"), Tally(calls=1, seconds=50.0))
    assert taken(spent) == {"other": 1}
    assert spent.plugin_seconds() == {"Sleeper": 0}


def test_data_bound_counts_from_the_first_time_that_training_begins(bus: Bus) -> None:
    spent = TimeSpent(bus)
    assert spent.data_fraction() == 0
    with spent.on("start-up"):
        clock.now += 10
    spent.begin_training()
    with spent.on("data"):
        clock.now += 1
    spent.begin_training()
    clock.now += 3
    assert spent.data_fraction() == 0.25


def test_metrics_are_the_shares_of_a_window(bus: Bus) -> None:
    spent = TimeSpent(bus)
    clock.now += 50
    spent.begin_training()
    with spent.on("steps"):
        clock.now += 6
    with spent.on("data"):
        clock.now += 1
    Sleeper.fire(bus, seconds=1)
    clock.now += 2
    assert spent.take_metrics() == {
        "time/steps": 0.6, "time/data": 0.1, "time/device": 0, "time/plugins": 0.1, "time/lanes_blocked": 0,
        "time/seconds": 10, "time/loop_lag": 0, "time/plugins/Sleeper": 0.1,
    }  # fmt: skip
    with spent.on("data"):
        clock.now += 8
    metrics = spent.take_metrics()
    assert (metrics["time/data"], metrics["time/steps"], metrics["time/plugins"]) == (1, 0, 0)


def test_a_plugin_that_took_under_a_hundredth_has_no_metric_of_its_own(bus: Bus) -> None:
    spent = TimeSpent(bus)
    clock.now += 99.5
    Sleeper.fire(bus, seconds=0.5)
    metrics = spent.take_metrics()
    assert metrics["time/plugins"] == 0.005
    assert "time/plugins/Sleeper" not in metrics


def test_the_lag_of_the_loop_is_in_seconds_and_that_of_the_window(bus: Bus) -> None:
    spent = TimeSpent(bus)
    bus.lanes.lag.note_start(0.25)
    assert spent.take_metrics()["time/loop_lag"] == 0.25
    assert spent.take_metrics()["time/loop_lag"] == 0


def test_a_run_gives_its_time_to_what_it_was_at(train: Callable[..., Run]) -> None:
    run = train(
        "train.steps=2", "cache.latents=true", "validation.fraction=0.3", "preview.at_end=true", "export.at_end=true",
        plugins=METRICS,
    )  # fmt: skip
    assert {kind for kind, seconds in run.spent.items() if not seconds} == {"device", "profile"}


def test_a_run_writes_the_times_beside_its_numbers_and_stores_none(train: Callable[..., Run]) -> None:
    run = train("train.steps=3", "log.every_steps=2", plugins=METRICS)
    for line in (run.folder / "metrics.jsonl").read_text().splitlines():
        values: dict[str, Any] = json.loads(line)["values"]
        assert {"loss", "time/steps", "time/data", "time/plugins", "time/loop_lag"} <= values.keys()
    assert TIME not in json.dumps(run.state()["state"])
