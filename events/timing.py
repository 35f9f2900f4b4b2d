"""What handlers cost: their calls and seconds summed, and a line for those that are slow."""

import logging
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from .signals import Handler, Receiver
from .watchdog import Running

log = logging.getLogger("signalbox.events")
SLOW_SECONDS = {"step": 0.5, "epoch": 5.0, "run": 20.0}
"""By a signal's pace, what a handler may take before it is named."""


@dataclass(slots=True)
class Tally:
    """What one handler has cost the process it ran in so far; an async one the hand-over and the waiting for room."""

    calls: int = 0
    seconds: float = 0.0
    slowest_seconds: float = 0.0

    def add(self, other: "Tally") -> None:
        self.calls += other.calls
        self.seconds += other.seconds
        self.slowest_seconds = max(self.slowest_seconds, other.slowest_seconds)


def timed(handler: Handler, tally: Tally, limit_seconds: float, running: list[Running], whole: Tally) -> Receiver:
    """The handler's call, summed into the tally, and on the list while it goes on.

    Into `whole` goes what no handler was waiting for, so that its seconds are those of all handlers, each moment once.
    Slow calls are named the 1st, 2nd, 4th, 8th, ... time.
    """
    call, slow_calls = handler.call, 0

    def timed_call(*arguments: Any) -> Any:
        nonlocal slow_calls
        started = perf_counter()
        try:
            running.append((handler, started))
            return call(*arguments)
        finally:
            running.pop()  # first, since what breaks a handler off may be raised after any call that is made here
            seconds = perf_counter() - started
            tally.calls += 1
            tally.seconds += seconds
            if seconds > tally.slowest_seconds:
                tally.slowest_seconds = seconds
            if not running:
                whole.calls += 1
                whole.seconds += seconds
            if seconds > limit_seconds:
                slow_calls += 1
                if slow_calls.bit_count() == 1:
                    _name_slow(handler, seconds, slow_calls)

    return timed_call


def _name_slow(handler: Handler, seconds: float, slow_calls: int) -> None:
    log.warning(
        "plugin %s is slow: %s took %.2f s at %s (%d slow calls so far)",
        handler.plugin, handler.label, seconds, handler.signal, slow_calls,
    )  # fmt: skip
