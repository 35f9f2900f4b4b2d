"""The compiled plan in words: for every signal, which handlers run, in which order, and where they are written."""

from collections.abc import Iterator

from events.bus import Bus
from events.catalogue import CATALOGUE


def plan_lines(bus: Bus) -> Iterator[str]:
    """A line a signal that anybody handles, and a line a handler."""
    for signal in bus.signals:
        if signal.handlers:
            yield f"{signal.name} ({signal.spec.kind}, {signal.spec.where} process)"
        for handler in signal.handlers:
            mode = "async" if handler.is_async else "sync"
            yield f"  {handler.priority:>4.0f}  {handler.plugin:<24} {handler.label:<36} {mode:<5}  {handler.source}"


def catalogue_lines() -> Iterator[str]:
    """Two lines a signal, in firing order."""
    for spec in CATALOGUE:
        also = ", async allowed" if spec.allows_async else ""
        yield f"{spec.name:<20} {spec.kind}, {spec.where} process{also}: {spec.carries}"
        yield f"{'':<20} {spec.meaning}"


def tally_lines(bus: Bus) -> Iterator[str]:
    """What each plugin's handlers have cost, the dearest first: those that training waited for, then those that make samples."""
    rows = sorted(bus.tallies.items(), key=lambda entry: -entry[1].seconds)
    heads = {
        "training": "time in plugins (seconds, calls, slowest call in ms)",
        "worker": "likewise, where samples are made",
    }
    for where, head in heads.items():
        called = [(key, tally) for key, tally in rows if tally.calls and bus.where(key[1]) == where]
        if called:
            yield head
        for (plugin, signal, label), tally in called:
            milliseconds = tally.slowest_seconds * 1000
            yield f"  {tally.seconds:8.3f} {tally.calls:7d} {milliseconds:9.2f}  {plugin}  {label} at {signal}"
    for lane in bus.lanes:
        if lane.blocked_seconds or lane.dropped:
            yield f"  lane of {lane.plugin}: training waited {lane.blocked_seconds:.2f} s for it, {lane.dropped} events dropped"
