"""The lag of the background loop is what a hand-over waits for it, and as long as a handler holds it without awaiting."""

import asyncio
import time
from typing import Any

from events import Plugin, on
from events.catalogue import METRICS_READY
from events.loop_lag import LoopLag
from events.testing import metrics_ready
from tests.events.conftest import Attach


class Holding(Plugin):
    """Holds the loop at its first event."""

    @on("metrics.ready")
    async def write(self, event: Any) -> None:
        if event.step == 1:
            time.sleep(0.05)


class Waiting(Plugin):
    @on("metrics.ready")
    async def write(self, event: Any) -> None:
        await asyncio.sleep(0.05)


def test_mean_and_largest_are_of_the_hand_overs() -> None:
    lag = LoopLag()
    for seconds in (1.0, 4.0, 1.0):
        lag.note_start(seconds)
    assert (lag.hand_overs, lag.mean_seconds, lag.largest_seconds) == (3, 2.0, 4.0)


def test_a_stretch_counts_for_the_largest_alone() -> None:
    lag = LoopLag()
    lag.note_start(1.0)
    lag.note_held(5.0)
    assert (lag.mean_seconds, lag.largest_seconds) == (1.0, 5.0)


def test_the_newest_is_the_largest_since_it_was_taken() -> None:
    lag = LoopLag()
    lag.note_start(4.0)
    assert lag.take_newest() == 4.0
    lag.note_start(1.0)
    assert (lag.take_newest(), lag.take_newest(), lag.largest_seconds) == (1.0, 0.0, 4.0)


def test_a_loop_that_nobody_used_is_not_late() -> None:
    assert LoopLag().mean_seconds == 0.0


def test_each_hand_over_that_wakes_a_lane_is_measured(attach: Attach) -> None:
    bus = attach(Waiting())
    for step in (1, 2):
        bus[METRICS_READY].emit(metrics_ready(step=step))
        bus.lanes.drain()
    assert bus.lanes.lag.hand_overs == 2
    assert bus.lanes.lag.seconds > 0


def test_a_handler_that_holds_the_loop_makes_it_late(attach: Attach) -> None:
    bus = attach(Holding())
    bus[METRICS_READY].emit(metrics_ready(step=1))
    bus.lanes.drain()
    assert bus.lanes.lag.largest_seconds >= 0.05
