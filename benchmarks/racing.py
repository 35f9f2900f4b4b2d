"""Contenders that take turns, so that what else the machine does touches all of them alike."""

from collections.abc import Mapping
from dataclasses import dataclass
from time import process_time
from timeit import Timer
from typing import Any


@dataclass(frozen=True, slots=True)
class Lap:
    """What is timed: a statement and the names it uses."""

    statement: str
    names: Mapping[str, Any]


def race(laps: Mapping[str, Lap], rounds: int, seconds: float, *, multiple: int = 1) -> dict[str, list[float]]:
    """Seconds of CPU time that each takes once, by round. A turn lasts about `seconds`, without garbage collection.

    The first round is not counted. Each runs a `multiple` of times, for what happens only each so many times.
    """
    timers = {
        name: Timer(lap.statement, globals=dict(lap.names), timer=process_time) for name, lap in laps.items()
    }  # fmt: skip
    counts = {name: count_for(timer, seconds, multiple) for name, timer in timers.items()}
    times: dict[str, list[float]] = {name: [] for name in timers}
    for number in range(rounds + 1):
        for name, timer in timers.items():
            each = timer.timeit(counts[name]) / counts[name]
            if number:
                times[name].append(each)
    return times


def count_for(timer: Timer, seconds: float, multiple: int) -> int:
    """How often it fits into so many seconds; at least `multiple` times."""
    count = 1
    while (taken := timer.timeit(count)) < seconds / 10:
        count *= 4
    return multiple * max(1, round(count * seconds / max(taken, 1e-9) / multiple))
