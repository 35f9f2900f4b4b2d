"""The compiled plan in words: for every signal, which handlers run, in which order, and where they are written."""

from collections.abc import Iterator

from events.bus import Bus
from events.catalogue import CATALOGUE
from events.signals import Handler
from events.spec import Notification, SignalSpec


def plan_lines(bus: Bus, *, with_sources: bool = True) -> Iterator[str]:
    """A line a signal that anybody handles, and a line a handler; the same on every rank."""
    for signal in bus.signals:
        if signal.planned:
            yield f"{signal.name} ({signal.spec.kind}, {signal.spec.where} process{only_on_main(signal.spec)})"
        for handler in signal.planned:
            mode, ranks = "async" if handler.is_async else "sync", ranks_text(handler, signal.spec)
            line = f"  {handler.priority:>4.0f}  {handler.plugin:<24} {handler.label:<36} {mode:<5}"
            yield f"{line}{f'  {ranks}' * bool(ranks)}  {handler.source if with_sources else ''}".rstrip()


def ranks_text(handler: Handler, spec: SignalSpec) -> str:
    """Where a handler that looks on runs, when that is not the main rank alone; what changes something runs on all."""
    if handler.is_collective:
        return "on all ranks together"
    return "on all ranks" if handler.ranks == "all" and isinstance(spec, Notification) else ""


def only_on_main(spec: SignalSpec) -> str:
    """Of a signal that no other rank fires."""
    return ", main rank" if spec.main_only else ""


def catalogue_lines() -> Iterator[str]:
    """Two lines a signal, in firing order."""
    for spec in CATALOGUE:
        also = ", async allowed" if spec.allows_async else ""
        on_all = ", on all ranks" if isinstance(spec, Notification) and spec.ranks == "all" else ""
        yield f"{spec.name:<20} {spec.kind}, {spec.where} process{only_on_main(spec)}{on_all}{also}: {spec.carries}"
        yield f"{'':<20} {spec.meaning}"


def tally_lines(bus: Bus) -> Iterator[str]:
    """What each plugin's handlers have cost, the dearest first: those that training waited for, then those that make samples."""
    rows = sorted(bus.tallies.items(), key=lambda entry: -entry[1].seconds)
    head, units = "time in plugins", " (seconds, calls, slowest call in ms)"
    for where, likewise in (("training", ""), ("worker", ", where samples are made")):
        called = [(key, tally) for key, tally in rows if tally.calls and bus.where(key[1]) == where]
        if called:
            yield head + likewise + units
            head, units = "likewise", ""
        for (plugin, signal, label), tally in called:
            milliseconds = tally.slowest_seconds * 1000
            yield f"  {tally.seconds:8.3f} {tally.calls:7d} {milliseconds:9.2f}  {plugin}  {label} at {signal}"
    for lane in bus.lanes:
        if lane.blocked_seconds or lane.dropped:
            yield f"  lane of {lane.plugin}: training waited {lane.blocked_seconds:.2f} s for it, {lane.dropped} events dropped"
