"""The end of a run says where the time went, and what to change only where much of it was waiting."""

from collections.abc import Callable
from pathlib import Path

import pytest

import run
from core.attached.plan_text import tally_lines
from core.config.tables import Config
from core.timing.spent import TimeSpent
from core.timing.text import time_lines
from events.bus import Bus
from events.testing import Harness
from events.timing import Tally
from tests.core.plugins_for_time import Sleeper, clock


@pytest.fixture
def bus(monkeypatch: pytest.MonkeyPatch) -> Bus:
    clock.now = 100.0
    for module in ("core.timing.spent", "events.timing"):
        monkeypatch.setattr(f"{module}.perf_counter", lambda: clock.now)
    bus = Harness(Sleeper()).bus
    bus.time_handlers()
    return bus


@pytest.fixture
def config(write_config: Callable[..., Path]) -> Config:
    return run.load(write_config(), ["data.workers=2"])


def passed(bus: Bus, **seconds: float) -> TimeSpent:
    """A session in which training began at once and so much time went to each kind."""
    spent = TimeSpent(bus)
    spent.begin_training()
    for kind, taken in seconds.items():
        with spent.on(kind.replace("_", " ")):  # type: ignore[arg-type]  # a kind
            clock.now += taken
    return spent


def test_kinds_are_named_from_the_largest_and_small_ones_left_out(bus: Bus, config: Config) -> None:
    spent = passed(bus, data=3, exports=0.4, steps=93.6, previews=2, other=1)
    assert list(time_lines(spent, bus, config)) == [
        "where the time went: steps 94 %, data 3 %, previews 2 %, other 1 %"
    ]


def test_where_training_waited_for_data_it_says_what_helps(bus: Bus, config: Config) -> None:
    _, said = time_lines(passed(bus, data=20, steps=80), bus, config)
    assert said.startswith("  data-bound 20 %: try more data.workers than 2, or cache.latents = true")


def test_what_is_in_use_is_not_advised(bus: Bus, write_config: Callable[..., Path]) -> None:
    config = run.load(write_config(), ["cache.latents=true"])
    _, said = time_lines(passed(bus, data=20, steps=80), bus, config)
    assert said == "  data-bound 20 %: try more data.workers than 0"


def test_a_plugin_that_makes_samples_late_is_named(bus: Bus, config: Config) -> None:
    bus.add_tally(("Sleeper", "sample.caption", "Sleeper.caption"), Tally(calls=3, seconds=12.0, slowest_seconds=5.0))
    _, said = time_lines(passed(bus, data=20, steps=80), bus, config)
    assert said.startswith("  data-bound 20 %: Sleeper took 12.0 s where samples are made")


def test_a_plugin_that_is_quick_with_samples_is_not_named(bus: Bus, config: Config) -> None:
    bus.add_tally(("Sleeper", "sample.caption", "Sleeper.caption"), Tally(calls=3, seconds=2.0, slowest_seconds=1.0))
    _, said = time_lines(passed(bus, data=20, steps=80), bus, config)
    assert said.startswith("  data-bound 20 %: try more data.workers")


def test_a_tenth_is_not_much(bus: Bus, config: Config) -> None:
    assert len(list(time_lines(passed(bus, data=10, steps=90), bus, config))) == 1


def test_where_plugins_took_much_the_dearest_is_named(bus: Bus, config: Config) -> None:
    spent = passed(bus, steps=94)
    Sleeper.fire(bus, seconds=6)
    bus.add_tally(("Worker", "sample.caption", "Worker.caption"), Tally(calls=1, seconds=50.0))
    _, said = time_lines(spent, bus, config)
    assert said == "  plugins 6 %: Sleeper took most of it, 6.0 s; the table has its handlers"


def test_a_lane_that_was_full_is_named(bus: Bus, config: Config) -> None:
    spent = passed(bus, steps=98)
    lane = bus.lanes.open("Sleeper")
    Sleeper.fire(bus, seconds=2, meanwhile=lambda: setattr(lane, "blocked_seconds", 2.0))
    _, said = time_lines(spent, bus, config)
    assert said.startswith("  lanes blocked 2 %: the lane of Sleeper was full; lane_full")


def test_waiting_for_lanes_to_be_empty_blames_no_plugin(bus: Bus, config: Config) -> None:
    _, said = time_lines(passed(bus, steps=98, lanes_blocked=2), bus, config)
    assert (
        said
        == "  lanes blocked 2 %: before a checkpoint and at the end, training waits until every async handler is done"
    )


def test_a_loop_that_was_late_is_told(bus: Bus, config: Config) -> None:
    bus.lanes.lag.note_start(0.1)
    bus.lanes.lag.note_held(0.4)
    _, said = time_lines(passed(bus, steps=1), bus, config)
    assert said.startswith("  the loop of async handlers was up to 0.40 s late, 0.100 s on average")


def test_a_session_that_ended_at_once_can_be_told_too(bus: Bus, config: Config) -> None:
    assert len(list(time_lines(TimeSpent(bus), bus, config))) == 1


def test_the_table_keeps_what_makes_samples_apart(bus: Bus) -> None:
    Sleeper.fire(bus, seconds=1)
    bus.add_tally(("Sleeper", "sample.caption", "Sleeper.caption"), Tally(calls=3, seconds=5.0, slowest_seconds=2.0))
    assert [" ".join(line.split()) for line in tally_lines(bus)] == [
        "time in plugins (seconds, calls, slowest call in ms)",
        "1.000 1 1000.00 Sleeper Sleeper.sleep at epoch.end",
        "likewise, where samples are made",
        "5.000 3 2000.00 Sleeper Sleeper.caption at sample.caption",
    ]


def test_a_table_of_samples_alone_has_a_whole_head(bus: Bus) -> None:
    bus.add_tally(("Sleeper", "sample.caption", "Sleeper.caption"), Tally(calls=3, seconds=5.0, slowest_seconds=2.0))
    head, _ = tally_lines(bus)
    assert head == "time in plugins, where samples are made (seconds, calls, slowest call in ms)"
