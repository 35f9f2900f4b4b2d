"""A lane: one plugin's events on their way to its async handlers, first in, first out, and never more than its size."""

import asyncio
import logging
import threading
import types
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from time import monotonic, perf_counter
from typing import Any, Literal, Protocol

from .background import in_background
from .errors import LaneStuck
from .loop_lag import LoopLag
from .signals import Handler

log = logging.getLogger("signalbox.events.lanes")
FullPolicy = Literal["block", "drop_oldest", "coalesce"]
"""When a lane is full: training waits for room; the oldest event goes; the handler's newest waiting event goes."""
DEFAULT_SIZE = 64
BUSY_SLICE_SECONDS = 0.25
"""An async handler that holds the loop this long without awaiting is named once."""


@dataclass(frozen=True, slots=True)
class Job:
    """An event on its way to a handler."""

    handler: Handler
    event: Any


@dataclass(frozen=True, slots=True)
class AsyncFailure:
    """An exception that waits for the next step boundary."""

    handler: Handler
    error: BaseException
    event: object


class Room(Protocol):
    """What the lanes of a run share."""

    patience_seconds: float
    """How long to wait before the plugin that is waited for is named, and named again."""
    limit_seconds: float
    """How long training waits for room in a full lane before the lane is given up."""
    failures: deque[AsyncFailure]
    held: tuple[Job, float] | None
    """Which job holds the loop at this moment, and since when on `perf_counter`."""
    blamed: Job | None
    """The job that last kept a lane from ending in time; it is one failure, however many lanes it kept waiting."""
    is_closed: bool
    lag: LoopLag

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop, started on first use."""


class Lane:
    """One plugin's events, handled one at a time in the loop's thread."""

    def __init__(self, plugin: str, room: Room, *, size: int = DEFAULT_SIZE, full: FullPolicy = "block") -> None:
        self.plugin = plugin
        self.dropped = 0
        """Events that were never handled to their end, apart from those a newer one of a coalesced signal replaced."""
        self.blocked_seconds = 0.0
        self.is_stuck = False
        """Given up, while its handler has still not ended: nobody waits for it, and what comes is dropped."""
        self._size = size
        self._full = full
        self._room = room
        self._waiting: deque[Job] = deque()
        self._running: Job | None = None
        self._is_working = False
        self._task: asyncio.Task[None] | None = None
        self._changed = threading.Condition()
        self._named_busy: set[str] = set()

    def put(self, handler: Handler, event: Any, *, newest_only: bool = False) -> None:
        """Queue an event; when the lane is full, wait, drop the oldest or replace the last, as the policy says.

        `newest_only` lets the event replace an older one of this handler that still waits.
        """
        with self._changed:
            if newest_only:
                self._remove(handler)
            if len(self._waiting) >= self._size and not self.is_stuck:
                self._make_room(handler)
            if self.is_stuck or self._room.is_closed:
                self._drop(handler)
                return
            self._waiting.append(Job(handler, event))
            wake, self._is_working = not self._is_working, True
        if wake:
            self._room.loop.call_soon_threadsafe(self._start, perf_counter())

    def idle(self) -> bool:
        return not self._is_working

    def wait_idle(self, seconds: float) -> bool:
        """Wait until every event is handled; False when that takes longer."""
        with self._changed:
            return self._changed.wait_for(self.idle, timeout=seconds)

    def forget(self, handler: Handler) -> None:
        """Drop what waits for a handler that was taken out."""
        with self._changed:
            self.dropped += self._remove(handler)
            self._changed.notify_all()

    def give_up(self, waited_seconds: float) -> None:
        """Drop what waits and cancel what runs; that is a failure of the plugin whose handler did not end."""
        with self._changed:
            running = self._running
            lost = [running, *self._waiting] if running else [*self._waiting]
            if not lost:
                return
            self.dropped += len(lost)
            self._waiting.clear()
            self.is_stuck = True
            self._changed.notify_all()
        self._room.loop.call_soon_threadsafe(partial(self._cancel, running))
        held = self._room.held
        culprit = held[0] if held and perf_counter() - held[1] > BUSY_SLICE_SECONDS else lost[0]
        error = LaneStuck(
            f"not done within {waited_seconds:.0f} s; {len(lost)} events of plugin {self.plugin} are lost"
        )
        log.error("plugin %s: %s; %s has not ended", culprit.handler.plugin, error, culprit.handler.label)
        if self._room.blamed is not culprit:
            self._room.blamed = culprit
            self._room.failures.append(AsyncFailure(culprit.handler, error, culprit.event))

    def _make_room(self, handler: Handler) -> None:
        if self._full == "block":
            self._wait_for_room()
        elif self._full == "coalesce":
            same = [place for place, job in enumerate(self._waiting) if job.handler is handler]
            del self._waiting[same[-1] if same else 0]
            self.dropped += 1
        else:
            self._waiting.popleft()
            self.dropped += 1

    def _wait_for_room(self) -> None:
        """Wait, except in the background, where the lane grows: its own loop would wait for itself."""
        if in_background():
            return
        started = monotonic()
        while not self._changed.wait_for(self._has_room, timeout=self._room.patience_seconds):
            waited = monotonic() - started
            log.warning("training waits since %.0f s for room in the full lane of plugin %s", waited, self.plugin)
            if waited >= self._room.limit_seconds:
                self.give_up(waited)
        self.blocked_seconds += monotonic() - started

    def _drop(self, handler: Handler) -> None:
        self.dropped += 1
        if self._room.is_closed:
            log.warning("plugin %s: an event of %s came after the end and is lost", self.plugin, handler.signal)

    def _has_room(self) -> bool:
        return len(self._waiting) < self._size

    def _remove(self, handler: Handler) -> int:
        kept = [job for job in self._waiting if job.handler is not handler]
        removed = len(self._waiting) - len(kept)
        if removed:
            self._waiting = deque(kept)
        return removed

    def _start(self, handed_over: float) -> None:
        self._room.lag.note_start(perf_counter() - handed_over)
        self._task = asyncio.get_running_loop().create_task(self._work())

    def _cancel(self, job: Job | None) -> None:
        """Cancel the job if it is still the one that runs; called in the loop's thread."""
        if job is not None and job is self._running and self._task is not None:
            self._task.cancel()

    async def _work(self) -> None:
        """Handle what waits, one after the other, until nothing does."""
        while True:
            with self._changed:
                self._running = self._waiting.popleft() if self._waiting else None
                self.is_stuck = False
                self._is_working = self._running is not None
                self._changed.notify_all()
                job = self._running
            if job is None:
                return
            try:
                await self._stepwise(job, job.handler.function(job.event))
            except GeneratorExit:
                raise
            except BaseException as error:
                if not self.is_stuck:  # else it was given up, which has been said
                    self._room.failures.append(AsyncFailure(job.handler, error, job.event))

    @types.coroutine
    def _stepwise(self, job: Job, coroutine: Coroutine[Any, Any, None]) -> Generator[Any, Any, None]:
        """Drive a coroutine while measuring how long each stretch between two awaits holds the loop."""
        send: Callable[[], Any] = partial(coroutine.send, None)
        while True:
            started = perf_counter()
            self._room.held = (job, started)
            try:
                awaited = send()
            except StopIteration:
                return
            finally:
                self._room.held = None
                self._room.lag.note_held(held := perf_counter() - started)
                if held > BUSY_SLICE_SECONDS:
                    self._name_busy(job.handler, held)
            try:
                send = partial(coroutine.send, (yield awaited))
            except GeneratorExit:  # the loop is gone; a handler that will not end is left as it is
                with suppress(RuntimeError):
                    coroutine.close()
                raise
            except BaseException as error:  # a cancellation or a failed await, which the coroutine must see
                send = partial(coroutine.throw, error)

    def _name_busy(self, handler: Handler, seconds: float) -> None:
        if handler.label not in self._named_busy:
            self._named_busy.add(handler.label)
            log.warning(
                "plugin %s: %s held the background loop for %.2f s; use in_thread or in_process for work that computes",
                handler.plugin, handler.label, seconds,
            )  # fmt: skip
