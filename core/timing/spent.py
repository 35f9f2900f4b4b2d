"""Where the wall time of a session went: each moment of the training thread belongs to one kind."""

from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from time import perf_counter
from typing import Literal, get_args

import torch

from events.bus import Bus
from events.ranges import RangeFactory

Kind = Literal[
    "start-up",
    "caching",
    "steps",
    "data",
    "device",
    "plugins",
    "lanes blocked",
    "validation",
    "previews",
    "checkpoints",
    "exports",
    "profile",
    "other",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
IN_METRICS: tuple[Kind, ...] = ("steps", "data", "device", "plugins", "lanes blocked")
TIME = "time/"
"""What the names of these metrics begin with: they differ from run to run, whatever the numbers of training do."""
SMALL_SHARE = 0.01
"""A plugin that took less of a window has no metric of its own there."""


def no_range(name: str) -> AbstractContextManager[None]:
    return nullcontext()


class TimeSpent:
    """Of one session; asked and told by the training thread alone.

    A moment belongs to the innermost `on` that it is in, and to "other" where there is none: the loop itself, the end of
    the session. Apart from that,

    * "plugins" is what handlers took here, wherever they were called, if `log.time_plugins` is on. Those of loader workers
      and async ones run beside.
    * "lanes blocked" is the waiting for room in a full lane, and for lanes to be empty before a checkpoint and at the end.
    * "steps" is the host's time in the closed step. Where the device works behind the host, its time appears there as soon
      as its queue is full, and otherwise where it is waited for.
    * "device" is the waiting for what was enqueued before a validation, a preview, a checkpoint and the last report. It is
      0 on the CPU, and the trainer waits nowhere else (P9).
    * "start-up" ends with the first batch, whose workers begin with it.
    """

    def __init__(self, bus: Bus) -> None:
        """The session begins now."""
        self.range_of: RangeFactory = no_range
        """Shows each `on` to a profiler."""
        self.begun = perf_counter()
        self._bus = bus
        self._kind: Kind = "other"
        self._seconds: dict[Kind, float] = dict.fromkeys(KINDS, 0.0)
        self._since = self.begun
        self._handled_before = self._handled = self._in_handlers()
        self._training_since: float | None = None
        self._window_since = self.begun
        self._window_begun: Mapping[Kind, float] = self.seconds()
        self._window_plugins = self.plugin_seconds()

    @contextmanager
    def on(self, kind: Kind) -> Generator[None, None, None]:
        """What happens within is of this kind, but for an `on` in it, and for handlers."""
        outer = self._turn_to(kind)
        try:
            with self.range_of(kind):
                yield
        finally:
            self._turn_to(outer)

    def wait_for(self, device: torch.device) -> None:
        """Wait until it has done what was enqueued, so that this is not counted as what comes next."""
        if device.type == "cuda":
            with self.on("device"):
                torch.cuda.synchronize(device)

    def begin_training(self) -> None:
        """The loop begins, for the first time or again; so does a window of the metrics."""
        self._training_since = self._training_since or perf_counter()
        self.take_metrics()

    def seconds(self) -> dict[Kind, float]:
        """By kind, up to now; together they are the wall time of the session."""
        self._turn_to(self._kind)
        blocked, handled = self._bus.lanes.blocked_seconds, self._handled - self._handled_before
        return self._seconds | {
            "plugins": handled - blocked,
            "lanes blocked": self._seconds["lanes blocked"] + blocked,
        }

    def total_seconds(self) -> float:
        return perf_counter() - self.begun

    def data_fraction(self) -> float:
        """Share of the time since training began that the loop waited for data, in [0, 1]."""
        if self._training_since is None:
            return 0.0
        return self._seconds["data"] / max(perf_counter() - self._training_since, 1e-9)

    def plugin_seconds(self) -> dict[str, float]:
        """What each plugin's handlers took in this thread, without waiting for room in its lane."""
        blocked = {lane.plugin: lane.blocked_seconds for lane in self._bus.lanes}
        taken: dict[str, float] = {}
        for (plugin, signal, _), tally in self._bus.tallies.items():
            if self._bus.where(signal) == "training":
                taken[plugin] = taken.get(plugin, 0.0) + tally.seconds
        return {plugin: seconds - blocked.get(plugin, 0.0) for plugin, seconds in taken.items()}

    def take_metrics(self) -> dict[str, float]:
        """Shares in [0, 1] of the wall time since this was asked last, that time, and the largest lag of the loop in seconds.

        `time/plugins/<name>` is there for each plugin that took at least 1 % of it.
        """
        seconds, plugins, now = self.seconds(), self.plugin_seconds(), self._since
        whole = max(now - self._window_since, 1e-9)
        shares = {kind: (seconds[kind] - self._window_begun[kind]) / whole for kind in IN_METRICS}
        by_plugin = {name: (taken - self._window_plugins.get(name, 0.0)) / whole for name, taken in plugins.items()}
        self._window_since, self._window_begun, self._window_plugins = now, seconds, plugins
        return {
            **{f"{TIME}{kind.replace(' ', '_')}": round(share, 4) for kind, share in shares.items()},
            f"{TIME}seconds": round(whole, 3),
            f"{TIME}loop_lag": round(self._bus.lanes.lag.take_newest(), 6),
            **{f"{TIME}plugins/{name}": round(part, 4) for name, part in by_plugin.items() if part >= SMALL_SHARE},
        }

    def _turn_to(self, kind: Kind) -> Kind:
        """Give the time since the last turn to the kind that it was, without what handlers took; returns that kind."""
        now, handled = perf_counter(), self._in_handlers()
        self._seconds[self._kind] += now - self._since - (handled - self._handled)
        self._since, self._handled = now, handled
        before, self._kind = self._kind, kind
        return before

    def _in_handlers(self) -> float:
        """What handlers took so far; where they are not timed, what of it is known from the lanes."""
        return max(self._bus.handled.seconds, self._bus.lanes.blocked_seconds)
