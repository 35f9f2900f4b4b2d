"""The background loop: async handlers run beside training, each plugin in its own bounded first-in-first-out lane.

One daemon thread runs one event loop, started by the first lane. A lane keeps its plugin's events in order, so a logger
never sees steps out of order; when it is full the plugin's policy decides. The loop shares the interpreter lock with
training: async handlers are for waiting on I/O. Work that computes goes through `in_thread` or `in_process`.
"""

import asyncio
import logging
import multiprocessing
import threading
import types
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from time import monotonic, perf_counter
from typing import Any, Literal, ParamSpec, TypeVar

from .signals import Handler

log = logging.getLogger("signalbox.events.lanes")
P = ParamSpec("P")
T = TypeVar("T")
FullPolicy = Literal["block", "drop_oldest", "coalesce"]
DEFAULT_SIZE = 64
SLOW_DRAIN_SECONDS = 5.0
BUSY_SLICE_SECONDS = 0.25
"""An async handler that holds the loop this long without awaiting is named once."""


class LaneStuck(Exception):
    """A lane did not finish its events within the limit of a drain."""


@dataclass(frozen=True, slots=True)
class AsyncFailure:
    """An exception that waits for the next step boundary."""

    handler: Handler
    error: BaseException
    event: object


class Lane:
    """One plugin's events on their way to its async handlers."""

    def __init__(self, plugin: str, lanes: "Lanes", *, size: int = DEFAULT_SIZE, full: FullPolicy = "block") -> None:
        self.plugin = plugin
        self.dropped = 0
        self.blocked_seconds = 0.0
        self._size = size
        self._full = full
        self._lanes = lanes
        self._items: deque[tuple[Handler, Any]] = deque()
        self._working = False
        self._task: asyncio.Task[None] | None = None
        self._changed = threading.Condition()
        self._named_busy: set[str] = set()

    def put(self, handler: Handler, event: Any) -> None:
        """Queue an event; when the lane is full, wait, drop the oldest or replace the last, as the policy says."""
        with self._changed:
            if len(self._items) >= self._size:
                self._make_room(handler)
            self._items.append((handler, event))
            wake, self._working = not self._working, True
        if wake:
            self._lanes.loop.call_soon_threadsafe(self._start)

    def idle(self) -> bool:
        return not self._working

    def wait_idle(self, seconds: float) -> bool:
        """Wait until every event is handled; False when that takes longer."""
        with self._changed:
            return self._changed.wait_for(self.idle, timeout=seconds)

    def cancel(self) -> int:
        """Give up what is queued and running; returns how many events were lost."""
        with self._changed:
            lost = len(self._items)
            self._items.clear()
        if self._task is not None:
            self._lanes.loop.call_soon_threadsafe(self._task.cancel)
        return lost + int(self._working)

    def _make_room(self, handler: Handler) -> None:
        if self._full == "block":
            started = perf_counter()
            self._changed.wait_for(lambda: len(self._items) < self._size)
            self.blocked_seconds += perf_counter() - started
        elif self._full == "coalesce":
            same = [place for place, (queued, _) in enumerate(self._items) if queued.signal == handler.signal]
            del self._items[same[-1] if same else 0]
            self.dropped += 1
        else:
            self._items.popleft()
            self.dropped += 1

    def _start(self) -> None:
        self._task = self._lanes.loop.create_task(self._work())

    async def _work(self) -> None:
        try:
            while True:
                with self._changed:
                    if not self._items:
                        return
                    handler, event = self._items.popleft()
                    self._changed.notify_all()
                try:
                    await _stepwise(handler.function(event), partial(self._name_busy, handler))
                except asyncio.CancelledError:
                    raise
                except BaseException as error:
                    self._lanes.failures.append(AsyncFailure(handler, error, event))
        finally:
            with self._changed:
                self._working = bool(self._items)
                self._changed.notify_all()
            if self._working:
                self._start()

    def _name_busy(self, handler: Handler, seconds: float) -> None:
        if handler.label not in self._named_busy:
            self._named_busy.add(handler.label)
            log.warning(
                "plugin %s: %s held the background loop for %.2f s; use in_thread or in_process for work that computes",
                handler.plugin, handler.label, seconds,
            )  # fmt: skip


@types.coroutine
def _stepwise(coroutine: Coroutine[Any, Any, None], name_busy: Callable[[float], None]) -> Generator[Any, Any, None]:
    """Drive a coroutine while measuring how long each stretch between two awaits holds the loop."""
    send: Callable[[], Any] = partial(coroutine.send, None)
    while True:
        started = perf_counter()
        try:
            awaited = send()
        except StopIteration:
            return
        finally:
            if (held := perf_counter() - started) > BUSY_SLICE_SECONDS:
                name_busy(held)
        try:
            send = partial(coroutine.send, (yield awaited))
        except BaseException as error:  # a cancellation or a failed await, which the coroutine must see
            send = partial(coroutine.throw, error)


class Lanes:
    """Every lane of a run and the thread they share."""

    def __init__(self) -> None:
        self.failures: deque[AsyncFailure] = deque()
        self._lanes: dict[str, Lane] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def open(self, plugin: str, *, size: int = DEFAULT_SIZE, full: FullPolicy = "block") -> Lane:
        """The lane of a plugin, made on first use."""
        if plugin not in self._lanes:
            self._lanes[plugin] = Lane(plugin, self, size=size, full=full)
        return self._lanes[plugin]

    def __iter__(self) -> "Generator[Lane, None, None]":
        yield from self._lanes.values()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop, started when the first event is handed over."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="signalbox-lanes", daemon=True)
            self._thread.start()
        return self._loop

    def drain(self, *, limit_seconds: float = 60.0) -> None:
        """Wait until every lane is idle (P7), naming a plugin that takes over 5 s; past the limit it is given up."""
        for lane in self._lanes.values():
            started = monotonic()
            while not lane.wait_idle(min(SLOW_DRAIN_SECONDS, limit_seconds)):
                waited = monotonic() - started
                log.warning("waiting for the async handlers of plugin %s since %.0f s", lane.plugin, waited)
                if waited >= limit_seconds:
                    lost = lane.cancel()
                    log.error("plugin %s did not finish in %.0f s; %d events given up", lane.plugin, waited, lost)
                    break

    def close(self, *, grace_seconds: float) -> None:
        """Drain within the grace, then stop the loop and its helpers."""
        if self._loop is None:
            return
        self.drain(limit_seconds=grace_seconds)
        self._loop.call_soon_threadsafe(self._loop.stop)
        if self._thread is not None:
            self._thread.join(timeout=grace_seconds)
        if not self._loop.is_running():
            self._loop.close()
        self._loop = None


_executors: dict[str, Executor] = {}


async def in_thread(function: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """Run a blocking function in a helper thread, from an async handler."""
    if "thread" not in _executors:
        _executors["thread"] = ThreadPoolExecutor(max_workers=2, thread_name_prefix="signalbox-lane-helper")
    return await asyncio.get_running_loop().run_in_executor(
        _executors["thread"], partial(function, *arguments, **options)
    )


async def in_process(function: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """Run a module-level function that computes in a helper process; it is started afresh, never forked from training."""
    if "process" not in _executors:
        context = multiprocessing.get_context("spawn")
        _executors["process"] = ProcessPoolExecutor(max_workers=1, mp_context=context)
    return await asyncio.get_running_loop().run_in_executor(
        _executors["process"], partial(function, *arguments, **options)
    )
