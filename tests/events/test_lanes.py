"""Async handlers run beside training, each plugin's in one bounded first-in-first-out lane that is drained on demand.

Their failures wait for the next step boundary; a handler that never ends is named, given up and never waited for again.
"""

import asyncio
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from events import Plugin, in_thread, on
from events.bus import Bus
from events.catalogue import CHECKPOINT_SAVED, METRICS_READY, PROGRESS
from events.errors import LaneStuck, PluginError
from events.lanes import Lanes
from events.testing import checkpoint_saved, metrics_ready, progress
from tests.events.conftest import Attach

LONG = 60.0
"""Seconds after which a test that hangs fails instead."""


class Logger(Plugin):
    """Writes down each step once `gate` is open."""

    def __init__(self, *, name: str = "") -> None:
        super().__init__(name=name)
        self.gate = threading.Event()
        self.started = threading.Event()
        self.steps: list[int] = []

    @on("metrics.ready")
    async def write(self, event: Any) -> None:
        self.started.set()
        await in_thread(self.gate.wait, LONG)
        self.steps.append(event.step)


@pytest.fixture
def logger() -> Iterator[Logger]:
    plugin = Logger()
    yield plugin
    plugin.gate.set()


def put(bus: Bus, *steps: int) -> None:
    for step in steps:
        bus[METRICS_READY].emit(metrics_ready(step=step))


def lane_of(bus: Bus, plugin: str) -> Any:
    return next(lane for lane in bus.lanes if lane.plugin == plugin)


def sized(size: int, full: str) -> Logger:
    return type("Logger", (Logger,), {"lane_size": size, "lane_full": full})()  # type: ignore[no-any-return]


def test_emit_hands_the_event_over_and_does_not_wait(attach: Attach, logger: Logger) -> None:
    bus = attach(logger)
    put(bus, 1)
    assert logger.steps == []
    logger.gate.set()
    bus.lanes.drain()
    assert logger.steps == [1]


def test_blinkers_send_hands_over_too(attach: Attach, logger: Logger) -> None:
    bus = attach(logger)
    logger.gate.set()
    bus[METRICS_READY].send(metrics_ready(step=1))
    bus.lanes.drain()
    assert logger.steps == [1]


def test_no_thread_is_started_before_the_first_event(attach: Attach, logger: Logger) -> None:
    before = threading.active_count()
    bus = attach(logger)
    bus.lanes.drain()
    assert threading.active_count() == before


def test_a_lane_keeps_the_order_over_signals_and_handlers(attach: Attach) -> None:
    class Both(Plugin):
        def __init__(self) -> None:
            super().__init__()
            self.heard: list[tuple[str, int]] = []

        @on("metrics.ready")
        async def slow(self, event: Any) -> None:
            await asyncio.sleep(0.002)
            self.heard.append(("slow", event.step))

        @on("checkpoint.saved")
        async def quick(self, event: Any) -> None:
            self.heard.append(("quick", event.step))

    plugin = Both()
    bus = attach(plugin)
    for step in range(5):
        put(bus, step)
        bus[CHECKPOINT_SAVED].emit(checkpoint_saved(step=step))
    bus.lanes.drain()
    assert plugin.heard == [(name, step) for step in range(5) for name in ("slow", "quick")]


def test_a_waiting_plugin_holds_up_no_other(attach: Attach, logger: Logger) -> None:
    other = Logger(name="Other")
    other.gate.set()
    bus = attach(logger, other)
    put(bus, 1)
    assert lane_of(bus, "Other").wait_idle(LONG)
    assert (other.steps, logger.steps) == ([1], [])


def test_a_full_lane_that_drops_the_oldest_keeps_the_newest_and_counts(attach: Attach) -> None:
    logger = sized(2, "drop_oldest")
    bus = attach(logger)
    put(bus, 1)
    assert logger.started.wait(LONG)
    put(bus, 2, 3, 4, 5)
    logger.gate.set()
    bus.lanes.drain()
    assert logger.steps == [1, 4, 5]
    assert lane_of(bus, "Logger").dropped == 2


def test_a_full_lane_that_coalesces_replaces_the_newest_of_the_same_handler(attach: Attach) -> None:
    class Two(Logger):
        lane_size, lane_full = 4, "coalesce"

        @on("metrics.ready")
        async def also(self, event: Any) -> None:
            self.steps.append(-event.step)

    logger = Two()
    bus = attach(logger)
    put(bus, 1)
    assert logger.started.wait(LONG)
    put(bus, 2, 3, 4)
    logger.gate.set()
    bus.lanes.drain()
    assert logger.steps == [1, -1, 2, 4, -4]
    assert lane_of(bus, "Two").dropped == 3


def test_a_full_lane_that_blocks_makes_training_wait_and_counts_the_time(attach: Attach) -> None:
    logger = sized(1, "block")
    bus = attach(logger)
    put(bus, 1)
    assert logger.started.wait(LONG)
    put(bus, 2)
    training = threading.Thread(target=put, args=(bus, 3))
    training.start()
    training.join(0.05)
    assert training.is_alive()
    logger.gate.set()
    training.join(LONG)
    bus.lanes.drain()
    assert logger.steps == [1, 2, 3]
    assert lane_of(bus, "Logger").blocked_seconds > 0
    assert lane_of(bus, "Logger").dropped == 0


def test_a_coalesced_signal_keeps_only_the_newest_that_waits_at_its_place_in_time(attach: Attach) -> None:
    class Display(Logger):
        @on("progress")
        async def show(self, event: Any) -> None:
            self.steps.append(-event.step)

    display = Display()
    bus = attach(display)
    put(bus, 1)
    assert display.started.wait(LONG)
    for step in (2, 3):
        bus[PROGRESS].emit(progress(step=step))
        put(bus, step)
    bus[PROGRESS].emit(progress(step=4))
    display.gate.set()
    bus.lanes.drain()
    assert display.steps == [1, 2, 3, -4]
    assert lane_of(bus, "Display").dropped == 0


def test_putting_from_the_loop_itself_does_not_wait_for_itself(attach: Attach) -> None:
    class Echo(Logger):
        lane_size = 1

        @on("checkpoint.saved")
        async def echo(self, event: Any) -> None:
            put(bus, 1, 2, 3)

    echo = Echo()
    echo.gate.set()
    bus = attach(echo)
    bus[CHECKPOINT_SAVED].emit(checkpoint_saved())
    bus.lanes.drain(limit_seconds=LONG)
    assert echo.steps == [1, 2, 3]


class Failing(Plugin):
    @on("metrics.ready")
    async def write(self, event: Any) -> None:
        raise ValueError(f"step {event.step}")


def test_a_failure_waits_for_the_boundary_and_follows_on_error(attach: Attach) -> None:
    bus = attach(Failing(), on_error="raise")
    put(bus, 7)
    bus.lanes.drain()
    with pytest.raises(
        PluginError, match=r"plugin Failing failed in Failing\.write .* \(step 7, epoch 0\): ValueError"
    ):
        bus.surface_async_failures()


def test_where_the_run_ends_anyway_failures_are_logged_whatever_on_error_says(attach: Attach, caplog: Any) -> None:
    bus = attach(Failing(), on_error="raise")
    put(bus, 7)
    bus.lanes.drain()
    bus.log_async_failures()
    bus.surface_async_failures()
    assert "plugin Failing failed in Failing.write: ValueError('step 7')" in caplog.text


def test_what_a_lane_has_dropped_is_counted_at_the_end(attach: Attach, caplog: Any) -> None:
    logger = sized(1, "drop_oldest")
    bus = attach(logger)
    put(bus, 1)
    assert logger.started.wait(LONG)
    put(bus, 2, 3, 4)
    logger.gate.set()
    bus.close(grace_seconds=LONG)
    assert "plugin Logger: 2 events never reached its async handlers" in caplog.text


def test_a_handler_is_disabled_after_three_failures_by_default(attach: Attach, caplog: Any) -> None:
    bus = attach(Failing())
    bus.seal()
    for step in range(5):
        put(bus, step)
        bus.lanes.drain()
        bus.surface_async_failures()
    assert bus[METRICS_READY].handlers == ()
    assert caplog.text.count("is disabled after 3 failures") == 1
    assert [record.getMessage().startswith("plugin Failing failed") for record in caplog.records] == [True] * 3 + [
        False
    ]


def test_what_waits_for_a_disabled_handler_is_dropped_and_counted(attach: Attach, logger: Logger) -> None:
    class Mixed(Logger):
        @on("checkpoint.saved")
        async def fail(self, event: Any) -> None:
            raise ValueError

    mixed = Mixed()
    mixed.gate.set()
    bus = attach(mixed)
    for _ in range(3):
        bus[CHECKPOINT_SAVED].emit(checkpoint_saved())
    bus.lanes.drain()
    mixed.gate.clear()
    mixed.started.clear()
    put(bus, 1)
    assert mixed.started.wait(LONG)
    for _ in range(4):
        bus[CHECKPOINT_SAVED].emit(checkpoint_saved())
    put(bus, 2)
    bus.surface_async_failures()
    mixed.gate.set()
    bus.lanes.drain()
    assert not bus.lanes.failures
    assert mixed.steps == [1, 2]
    assert lane_of(bus, "Mixed").dropped == 4


@pytest.mark.parametrize("error", [SystemExit(1), asyncio.CancelledError(), StopAsyncIteration()])
def test_an_unusual_exception_is_a_failure_and_the_lane_goes_on(attach: Attach, error: BaseException) -> None:
    class Odd(Logger):
        @on("checkpoint.saved")
        async def fail(self, event: Any) -> None:
            raise error

    odd = Odd()
    odd.gate.set()
    bus = attach(odd)
    bus[CHECKPOINT_SAVED].emit(checkpoint_saved())
    put(bus, 1)
    bus.lanes.drain()
    (failure,) = bus.lanes.failures
    assert failure.error is error
    assert odd.steps == [1]
    bus.lanes.failures.clear()


def test_a_failure_that_nobody_surfaced_is_logged_at_the_end(attach: Attach, caplog: Any) -> None:
    bus = attach(Failing())
    put(bus, 7)
    bus.close()
    assert "plugin Failing failed in Failing.write: ValueError('step 7')" in caplog.text


def test_a_failure_while_draining_is_surfaced_after_it(attach: Attach) -> None:
    class Late(Logger):
        @on("checkpoint.saved")
        async def fail(self, event: Any) -> None:
            await in_thread(self.gate.wait, LONG)
            raise ValueError

    late = Late()
    bus = attach(late, on_error="raise")
    bus[CHECKPOINT_SAVED].emit(checkpoint_saved())
    threading.Timer(0.02, late.gate.set).start()
    bus.lanes.drain()
    with pytest.raises(PluginError):
        bus.surface_async_failures()


def impatient() -> Lanes:
    return Lanes(patience_seconds=0.01, limit_seconds=0.03)


def ends_the_wait(record: logging.LogRecord, logger: Logger) -> bool:
    """Of the lanes' own lines the first one; asyncio may have something to say of loops that are gone."""
    if record.name.startswith("signalbox"):
        logger.gate.set()
    return True


def test_a_slow_drain_names_the_plugin_and_goes_on_waiting(attach: Attach, logger: Logger, caplog: Any) -> None:
    bus = attach(logger, lanes=Lanes(patience_seconds=0.01))
    put(bus, 1)
    caplog.handler.addFilter(lambda record: ends_the_wait(record, logger))
    bus.lanes.drain(limit_seconds=LONG)
    assert logger.steps == [1]
    assert "waiting for the async handlers of plugin Logger since" in caplog.text
    assert not bus.lanes.failures


def test_a_lane_past_the_limit_is_given_up_as_a_failure_of_its_plugin(attach: Attach, logger: Logger) -> None:
    bus = attach(logger, lanes=impatient(), on_error="raise")
    put(bus, 1, 2, 3)
    assert logger.started.wait(LONG)
    bus.lanes.drain()
    with pytest.raises(PluginError, match="3 events of plugin Logger are lost") as caught:
        bus.surface_async_failures()
    assert isinstance(caught.value.__cause__, LaneStuck)
    assert (caught.value.plugin, caught.value.signal) == ("Logger", "metrics.ready")
    assert lane_of(bus, "Logger").dropped == 3


def test_the_limit_is_for_all_lanes_together(attach: Attach, logger: Logger, caplog: Any) -> None:
    other = Logger(name="Other")
    bus = attach(logger, other, lanes=impatient())
    put(bus, 1)
    assert other.started.wait(LONG)
    bus.lanes.drain()
    assert caplog.text.count("waiting for the async handlers of plugin Other") == 1
    bus.lanes.failures.clear()
    other.gate.set()


def test_a_lane_that_was_given_up_works_again_when_its_handler_has_ended(attach: Attach, logger: Logger) -> None:
    bus = attach(logger, lanes=impatient())
    put(bus, 1)
    assert logger.started.wait(LONG)
    bus.lanes.drain()
    assert lane_of(bus, "Logger").wait_idle(LONG), "the handler was cancelled"
    logger.gate.set()
    put(bus, 2)
    bus.lanes.drain(limit_seconds=LONG)
    assert logger.steps == [2]


class Stubborn(Plugin):
    """Ends when `released`, and at no cancellation."""

    def __init__(self) -> None:
        super().__init__()
        self.released = threading.Event()
        self.started = threading.Event()

    @on("metrics.ready")
    async def write(self, event: Any) -> None:
        self.started.set()
        while not self.released.is_set():
            try:
                await asyncio.sleep(0.005)
            except asyncio.CancelledError:
                continue


@pytest.fixture
def stubborn() -> Iterator[Stubborn]:
    plugin = Stubborn()
    yield plugin
    plugin.released.set()


def test_a_handler_that_ignores_its_cancellation_is_never_waited_for_again(
    attach: Attach, stubborn: Stubborn, caplog: Any
) -> None:
    bus = attach(stubborn, lanes=impatient())
    put(bus, 1)
    assert stubborn.started.wait(LONG)
    bus.lanes.drain()
    bus.surface_async_failures()
    caplog.clear()
    put(bus, *range(200))
    bus.lanes.drain(limit_seconds=LONG)
    assert lane_of(bus, "Stubborn").dropped == 201
    assert not bus.lanes.failures
    assert caplog.text == ""


def test_training_does_not_wait_forever_for_room(attach: Attach, caplog: Any) -> None:
    logger = sized(1, "block")
    bus = attach(logger, lanes=impatient())
    put(bus, 1)
    assert logger.started.wait(LONG)
    put(bus, 2)
    put(bus, 3)
    (failure,) = bus.lanes.failures
    assert isinstance(failure.error, LaneStuck)
    assert "training waits since 0 s for room in the full lane of plugin Logger" in caplog.text
    bus.lanes.failures.clear()
    logger.gate.set()


def test_a_handler_that_holds_the_loop_is_blamed_for_the_lanes_behind_it(attach: Attach, logger: Logger) -> None:
    class Holder(Plugin):
        released = threading.Event()
        started = threading.Event()

        @on("checkpoint.saved")
        async def hold(self, event: Any) -> None:
            self.started.set()
            self.released.wait(LONG)

    bus = attach(Holder(), logger, lanes=Lanes(patience_seconds=0.4, limit_seconds=0.4))
    bus[CHECKPOINT_SAVED].emit(checkpoint_saved())
    assert Holder.started.wait(LONG)
    put(bus, 1)
    bus.lanes.drain()
    failures = list(bus.lanes.failures)
    bus.lanes.failures.clear()
    Holder.released.set()
    logger.gate.set()
    assert [failure.handler.plugin for failure in failures] == ["Holder"]
    assert lane_of(bus, "Logger").dropped == 1


def test_a_handler_that_holds_the_loop_is_named(attach: Attach, caplog: Any) -> None:
    class Heavy(Plugin):
        @on("metrics.ready")
        async def compute(self, event: Any) -> None:
            threading.Event().wait(0.3)

    bus = attach(Heavy())
    put(bus, 1, 2)
    bus.lanes.drain()
    assert caplog.text.count("plugin Heavy: Heavy.compute held the background loop for") == 1
    assert "use in_thread or in_process for work that computes" in caplog.text


def test_waiting_is_not_taken_for_holding_the_loop(attach: Attach, caplog: Any) -> None:
    class Waiting(Plugin):
        @on("metrics.ready")
        async def wait(self, event: Any) -> None:
            await asyncio.sleep(0.3)

    bus = attach(Waiting())
    put(bus, 1)
    bus.lanes.drain()
    assert "held the background loop" not in caplog.text


def test_closing_drains_what_is_left(attach: Attach, logger: Logger) -> None:
    bus = attach(logger)
    logger.gate.set()
    put(bus, 1, 2, 3)
    bus.close()
    assert logger.steps == [1, 2, 3]


def test_closing_ends_the_thread(attach: Attach, logger: Logger) -> None:
    bus = attach(logger)
    logger.gate.set()
    put(bus, 1)
    bus.close()
    assert "signalbox-lanes" not in [thread.name for thread in threading.enumerate()]


def test_closing_ends_at_its_grace_and_names_who_did_not_end(attach: Attach, stubborn: Stubborn, caplog: Any) -> None:
    others = [type(f"Stubborn{number}", (Stubborn,), {})() for number in range(3)]
    bus = attach(stubborn, *others)
    put(bus, 1)
    bus.close(grace_seconds=0.05)
    for plugin in others:
        plugin.released.set()
    assert [f"plugin {name} failed in" in caplog.text for name in bus.plugins] == [True] * 4


def test_tasks_that_a_handler_left_running_are_cancelled_at_the_end(attach: Attach) -> None:
    ended = threading.Event()

    class Leaver(Plugin):
        @on("metrics.ready")
        async def start(self, event: Any) -> None:
            async def forever() -> None:
                try:
                    await asyncio.Event().wait()
                finally:
                    ended.set()

            self.task = asyncio.create_task(forever())
            await asyncio.sleep(0)

    bus = attach(Leaver())
    put(bus, 1)
    bus.close()
    assert ended.is_set()


def test_a_task_that_exits_does_not_end_the_loop_for_the_others(attach: Attach, logger: Logger, caplog: Any) -> None:
    class Exiting(Plugin):
        @on("checkpoint.saved")
        async def start(self, event: Any) -> None:
            async def leave() -> None:
                raise SystemExit(1)

            task = asyncio.create_task(leave())
            await asyncio.wait({task})
            task.exception()

    bus = attach(Exiting(), logger)
    logger.gate.set()
    bus[CHECKPOINT_SAVED].emit(checkpoint_saved())
    bus.lanes.drain(limit_seconds=LONG)
    put(bus, 1)
    bus.lanes.drain(limit_seconds=LONG)
    assert logger.steps == [1]
    assert "broke out of the background loop" in caplog.text


def test_an_event_after_the_end_is_dropped_with_a_line(attach: Attach, logger: Logger, caplog: Any) -> None:
    bus = attach(logger)
    bus.close()
    put(bus, 1)
    assert logger.steps == []
    assert "plugin Logger: an event of metrics.ready came after the end and is lost" in caplog.text
