"""The background loop: async handlers run beside training, each plugin in its own bounded first-in-first-out lane.

One daemon thread runs one event loop, started by the first event. A lane keeps its plugin's events in order, so a logger
never sees steps out of order; when it is full the plugin's policy decides. The loop shares the interpreter lock with
training: async handlers are for waiting on I/O. Work that computes goes through `in_thread` or `in_process`.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from time import monotonic

from .background import end_helpers, in_process, in_thread, mark_background
from .lane import DEFAULT_SIZE, AsyncFailure, FullPolicy, Job, Lane
from .loop_lag import LoopLag
from .signals import Handler

__all__ = ["DEFAULT_SIZE", "AsyncFailure", "FullPolicy", "Lane", "Lanes", "in_process", "in_thread"]
log = logging.getLogger("signalbox.events.lanes")
SLOW_DRAIN_SECONDS = 5.0
LIMIT_SECONDS = 60.0
"""How long training waits for a lane to finish, or for room in it, before the lane is given up."""
FAREWELL_SECONDS = 1.0
"""How long cancelled handlers may take to end when the loop is stopped."""


class Lanes:
    """Every lane of a run and the thread they share."""

    def __init__(self, *, patience_seconds: float = SLOW_DRAIN_SECONDS, limit_seconds: float = LIMIT_SECONDS) -> None:
        self.patience_seconds = patience_seconds
        self.limit_seconds = limit_seconds
        self.failures: deque[AsyncFailure] = deque()
        self.held: tuple[Job, float] | None = None
        self.blamed: Job | None = None
        self.is_closed = False
        self.lag = LoopLag()
        self._lanes: dict[str, Lane] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def open(self, plugin: str, *, size: int = DEFAULT_SIZE, full: FullPolicy = "block") -> Lane:
        """The lane of a plugin, made on first use."""
        if plugin not in self._lanes:
            self._lanes[plugin] = Lane(plugin, self, size=size, full=full)
        return self._lanes[plugin]

    def __iter__(self) -> Iterator[Lane]:
        yield from self._lanes.values()

    @property
    def blocked_seconds(self) -> float:
        """How long training has waited for room in full lanes, all together."""
        return sum(lane.blocked_seconds for lane in self._lanes.values())

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop, started when the first event is handed over."""
        with self._starting:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=_run_loop, args=(self._loop,), name="signalbox-lanes", daemon=True
                )
                self._thread.start()
            return self._loop

    def drain(self, *, limit_seconds: float | None = None) -> None:
        """Wait until every lane is idle (P7), naming plugins that take over 5 s.

        Past the limit for all together, a lane that is not idle is given up: its events are lost, and its handler has
        failed with LaneStuck, which the next `surface_async_failures` brings to its plugin's `on_error`.
        """
        limit = self.limit_seconds if limit_seconds is None else limit_seconds
        started = named = monotonic()
        for lane in self._lanes.values():
            while not lane.is_stuck:
                now = monotonic()
                wait = min(named + self.patience_seconds, started + limit) - now
                if lane.wait_idle(max(wait, 0.0)):
                    break
                named, waited = monotonic(), monotonic() - started
                log.warning("waiting for the async handlers of plugin %s since %.0f s", lane.plugin, waited)
                if waited >= limit:
                    lane.give_up(waited)
                    break

    def forget(self, handler: Handler) -> None:
        """Drop the events that wait for a handler that was taken out."""
        if handler.plugin in self._lanes:
            self._lanes[handler.plugin].forget(handler)

    def close(self, *, grace_seconds: float) -> None:
        """Drain within the grace, then stop the loop and its helpers; what comes later is dropped with a line."""
        if self.is_closed:
            return
        self.drain(limit_seconds=grace_seconds)
        self.is_closed = True
        for lane in self._lanes.values():
            if lane.dropped:
                log.warning("plugin %s: %d events never reached its async handlers", lane.plugin, lane.dropped)
        if self._loop is None or self._thread is None:
            return
        self._loop.call_soon_threadsafe(_farewell)
        self._thread.join(timeout=2 * FAREWELL_SECONDS)
        if self._thread.is_alive():
            held = self.held
            holder = f"; plugin {held[0].handler.plugin} holds it in {held[0].handler.label}" if held else ""
            log.error("the background loop does not end%s", holder)
        else:
            self._loop.close()
        end_helpers(self._loop)


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    mark_background()
    while True:
        try:
            loop.run_forever()
            return
        except BaseException:  # asyncio lets sys.exit() of a task that a plugin left running end the loop
            log.exception("a task of a plugin broke out of the background loop, which goes on")


def _farewell() -> None:
    """Let the loop end what is left and stop; called in its thread."""
    loop = asyncio.get_running_loop()
    ending = loop.create_task(_end_tasks())
    ending.add_done_callback(lambda _: loop.stop())


async def _end_tasks() -> None:
    """Cancel what plugins left running; a task that ignores that is left behind."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=FAREWELL_SECONDS)
    with suppress(Exception):  # of a plugin's own generators
        await asyncio.get_running_loop().shutdown_asyncgens()
