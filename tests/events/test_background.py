"""`in_thread` and `in_process` take work off the loop, give back what it returns or raises, and end with the run."""

import asyncio
import multiprocessing
import os
import threading
from contextvars import ContextVar
from time import monotonic, sleep
from typing import Any

import pytest

from events import Plugin, in_process, in_thread, on
from events.background import in_background
from events.catalogue import METRICS_READY
from events.testing import metrics_ready
from tests.events.conftest import Attach

LONG = 60.0
WHO: ContextVar[str] = ContextVar("WHO", default="nobody")


def divide(one: float, other: float = 0.0) -> float:
    return one / other


def never_end() -> None:
    threading.Event().wait()


def raise_stop() -> None:
    raise StopIteration


def test_a_thread_gives_back_what_the_function_returns() -> None:
    assert asyncio.run(in_thread(divide, 6.0, other=2.0)) == 3.0


def test_a_thread_raises_what_the_function_raises() -> None:
    with pytest.raises(ZeroDivisionError):
        asyncio.run(in_thread(divide, 1.0))


@pytest.mark.parametrize(("function", "kind"), [(raise_stop, RuntimeError), (exit, SystemExit)])
def test_a_thread_raises_also_what_a_future_cannot_hold(function: Any, kind: type[BaseException]) -> None:
    async def work() -> None:
        with pytest.raises(kind):
            await in_thread(function)

    asyncio.run(work())


def test_a_thread_sees_the_callers_context() -> None:
    async def work() -> str:
        WHO.set("caller")
        return await in_thread(WHO.get)

    assert asyncio.run(work()) == "caller"


def test_a_thread_is_another_one_and_known_to_be_in_the_background() -> None:
    assert asyncio.run(in_thread(in_background))
    assert not in_background()


def test_a_thread_never_keeps_the_process_alive() -> None:
    assert asyncio.run(in_thread(lambda: threading.current_thread().daemon))


def test_a_thread_that_ends_after_its_loop_harms_nobody() -> None:
    gate, ended = threading.Event(), threading.Event()

    def work() -> None:
        gate.wait(LONG)
        ended.set()

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(in_thread(work), timeout=0.01)

    asyncio.run(give_up())
    gate.set()
    assert ended.wait(LONG)


def test_a_thread_that_nobody_waits_for_any_more_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    gate, later = threading.Event(), threading.Event()

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(in_thread(gate.wait, LONG), timeout=0.01)
        gate.set()
        for thread in threading.enumerate():
            if thread.name == "signalbox-helper":
                thread.join(LONG)
        asyncio.get_running_loop().call_soon(later.set)
        while not later.is_set():
            await asyncio.sleep(0)

    asyncio.run(give_up())
    assert caplog.text == ""


def is_gone(pid: int) -> bool:
    """Whether the process ends; who waits for it may be another thread, which takes a moment to say so."""
    deadline = monotonic() + LONG
    while pid in [process.pid for process in multiprocessing.active_children()]:
        if monotonic() > deadline:
            return False
        sleep(0.01)
    return True


class Computing(Plugin):
    """Runs each event's function in the helper process."""

    def __init__(self) -> None:
        super().__init__()
        self.results: list[Any] = []

    @on("metrics.ready")
    async def compute(self, event: Any) -> None:
        self.results += [await in_process(os.getpid), await in_process(divide, 6.0, other=3.0)]
        try:
            await in_process(divide, 1.0)
        except ZeroDivisionError as error:
            self.results.append(type(error))
        self.results.append(await in_process(os.getpid))


def test_a_process_of_its_own_computes_and_ends_with_the_run(attach: Attach) -> None:
    plugin = Computing()
    bus = attach(plugin)
    bus[METRICS_READY].emit(metrics_ready())
    bus.lanes.drain()
    pid, quotient, error, again = plugin.results
    assert pid == again != os.getpid()
    assert (quotient, error) == (2.0, ZeroDivisionError)
    bus.close()
    assert is_gone(pid)


class Crashing(Computing):
    @on("metrics.ready")
    async def compute(self, event: Any) -> None:
        if event.step == 1:
            await in_process(os._exit, 1)
        self.results.append(await in_process(divide, 6.0, other=3.0))


def test_a_process_that_died_is_replaced_by_the_next_call(attach: Attach) -> None:
    plugin = Crashing()
    bus = attach(plugin)
    for step in (1, 2):
        bus[METRICS_READY].emit(metrics_ready(step=step))
    bus.lanes.drain()
    assert [type(failure.error).__name__ for failure in bus.lanes.failures] == ["BrokenProcessPool"]
    assert plugin.results == [2.0]
    bus.lanes.failures.clear()


class Endless(Plugin):
    started = threading.Event()

    @on("metrics.ready")
    async def compute(self, event: Any) -> None:
        self.pid = await in_process(os.getpid)
        self.started.set()
        await in_process(never_end)


def test_a_process_that_never_ends_is_ended_with_the_run(attach: Attach) -> None:
    plugin = Endless()
    bus = attach(plugin)
    bus[METRICS_READY].emit(metrics_ready())
    assert plugin.started.wait(LONG)
    bus.close(grace_seconds=0.05)
    assert is_gone(plugin.pid)
