"""Where the time went, in words: what the end of a run says, and what to change where much of it was waiting."""

from collections.abc import Iterator

from events.bus import Bus

from ..config.tables import Config
from .spent import TimeSpent

SHOWN = 0.005
"""Smallest share that is named."""
MUCH_DATA, MUCH_PLUGINS, MUCH_BLOCKED = 0.10, 0.05, 0.01
"""Shares above which there is advice."""
LATE_SECONDS = 0.25
"""A lag of the background loop from which on it is named."""


def time_lines(spent: TimeSpent, bus: Bus, config: Config) -> Iterator[str]:
    """The shares of the session's wall time, then whatever there is to say about them."""
    seconds = spent.seconds()
    whole = max(sum(seconds.values()), 1e-9)
    shares = {kind: taken / whole for kind, taken in sorted(seconds.items(), key=lambda entry: -entry[1])}
    shares["other"] = shares.pop("other")  # last
    yield "where the time went: " + ", ".join(
        f"{kind} {100 * share:.0f} %" for kind, share in shares.items() if share >= SHOWN
    )
    if bus.lanes.lag.largest_seconds >= LATE_SECONDS:
        lag = bus.lanes.lag
        yield (
            f"  the loop of async handlers was up to {lag.largest_seconds:.2f} s late, {lag.mean_seconds:.3f} s on average:"
            " a handler holds it without awaiting"
        )
    if spent.data_fraction() > MUCH_DATA:
        yield f"  data-bound {100 * spent.data_fraction():.0f} %: {_about_data(config, bus, seconds['data'])}"
    if shares["plugins"] > MUCH_PLUGINS:
        name, taken = max(spent.plugin_seconds().items(), key=lambda entry: entry[1])
        yield f"  plugins {100 * shares['plugins']:.0f} %: {name} took most of it, {taken:.1f} s; the table has its handlers"
    if shares["lanes blocked"] > MUCH_BLOCKED:
        yield f"  lanes blocked {100 * shares['lanes blocked']:.0f} %: {_about_lanes(bus)}"


def _about_data(config: Config, bus: Bus, waited: float) -> str:
    seconds: dict[str, float] = {}
    for (plugin, signal, _), tally in bus.tallies.items():
        if bus.where(signal) == "worker":
            seconds[plugin] = seconds.get(plugin, 0.0) + tally.seconds
    dearest = max(seconds, key=seconds.__getitem__, default="")
    if dearest and seconds[dearest] >= waited / 2:
        blamed = f"{dearest} took {seconds[dearest]:.1f} s where samples are made, the table has its handlers; else "
    else:
        blamed = ""
    advice = [f"try more data.workers than {config.data.workers}"]
    if not config.cache.latents:
        advice.append("cache.latents = true, so that pictures are decoded and encoded once")
    return blamed + ", or ".join(advice)


def _about_lanes(bus: Bus) -> str:
    full = [lane for lane in bus.lanes if lane.blocked_seconds]
    if not full:
        return "before a checkpoint and at the end, training waits until every async handler is done"
    name = max(full, key=lambda lane: lane.blocked_seconds).plugin
    return (
        f'the lane of {name} was full; lane_full = "drop_oldest" or "coalesce" in its class does not let training wait'
    )
