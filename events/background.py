"""What runs beside training: whether this is such a thread, and helpers for work that must not hold the loop."""

import asyncio
import contextvars
import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from contextlib import suppress
from functools import partial
from typing import ParamSpec, TypeVar
from weakref import WeakKeyDictionary

P = ParamSpec("P")
T = TypeVar("T")
IDLE_SECONDS = 1.0
"""How long a helper process may take to end by itself at the end of a run."""
_here = threading.local()
_pools: "WeakKeyDictionary[asyncio.AbstractEventLoop, _Pool]" = WeakKeyDictionary()


def in_background() -> bool:
    """Whether this thread runs beside training: the loop of the async handlers, or a helper of theirs."""
    return getattr(_here, "is_background", False)


def mark_background() -> None:
    """Say that this thread runs beside training."""
    _here.is_background = True


async def in_thread(function: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """Run a blocking function in a helper thread, from an async handler. The thread never keeps the process alive."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()
    work = partial(contextvars.copy_context().run, function, *arguments, **options)
    threading.Thread(target=_work, args=(loop, done, work), name="signalbox-helper", daemon=True).start()
    return await done


async def in_process(function: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """Run a module-level function that computes in a helper process; it is started afresh, never forked from training.

    All handlers share one process; the first call waits until it is there. Raises BrokenExecutor when it dies.
    """
    loop = asyncio.get_running_loop()
    pool = _pools.get(loop)
    if pool is None:
        pool = _pools[loop] = _Pool()
    try:
        return await pool.run(partial(function, *arguments, **options))
    except BrokenExecutor:
        if _pools.get(loop) is pool:
            del _pools[loop]
        raise


def end_helpers(loop: asyncio.AbstractEventLoop) -> None:
    """End the helper process of a loop that is closing, also when it is still busy."""
    pool = _pools.pop(loop, None)
    if pool is not None:
        pool.end()


class _Pool:
    """The helper process of one loop."""

    def __init__(self) -> None:
        self._executor = ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn"))
        self._pid: int | None = None

    async def run(self, work: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        if self._pid is None:
            self._pid = await loop.run_in_executor(self._executor, os.getpid)
        return await loop.run_in_executor(self._executor, work)

    def end(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            if process.pid == self._pid:
                process.join(timeout=IDLE_SECONDS)
                process.kill()
                process.join(timeout=IDLE_SECONDS)


def _work(loop: asyncio.AbstractEventLoop, done: "asyncio.Future[T]", work: Callable[[], T]) -> None:
    mark_background()
    try:
        settle = partial(done.set_result, work())
    except BaseException as error:
        kept = RuntimeError(repr(error)) if isinstance(error, StopIteration) else error  # which no future can hold
        settle = partial(done.set_exception, kept)
    with suppress(RuntimeError):  # the loop was closed meanwhile, and nobody waits
        loop.call_soon_threadsafe(lambda: None if done.done() else settle())
