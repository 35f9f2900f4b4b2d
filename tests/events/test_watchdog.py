"""A handler that hangs is told with its stack, and past the limit it is broken off, as if it had raised."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from events import Notification, Plugin, on, transform
from events.bus import Bus
from events.catalogue import EPOCH_END, SAMPLE_CAPTION, STEP_END
from events.errors import HandlerHung, PluginError
from events.testing import epoch_end, sample_context, step_end
from events.watchdog import watching
from tests.events.conftest import Attach

LIMIT = 0.2
PATIENCE = 5.0
"""Seconds after which what hangs ends by itself, so that a test fails instead."""


def sleep() -> None:
    time.sleep(PATIENCE)


def compute() -> None:
    begun = time.monotonic()
    while time.monotonic() < begun + PATIENCE:
        pass


def read_pipe() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as stream, os.fdopen(writing, "wb"):
        stream.read(1)


def read_socket() -> None:
    one, other = socket.socketpair()
    with one, other:
        one.recv(1)


def wait_for_lock() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def swallow() -> None:
    begun = time.monotonic()
    while time.monotonic() < begun + PATIENCE:
        with suppress(Exception):
            time.sleep(PATIENCE)


def hanging(work: Callable[[], None], times: int = 1) -> Any:
    class Hanging(Plugin):
        calls = 0

        @on("epoch.end")
        def note(self, event: Any) -> None:
            self.calls += 1
            if self.calls <= times:
                work()

    return Hanging()


def watch(bus: Bus, soft: float = 0.0, hard: float = LIMIT) -> Any:
    bus.time_handlers()
    return watching(bus.running, stack_after_seconds=soft, limit_seconds=hard)


@pytest.mark.parametrize("work", [sleep, compute, read_pipe, read_socket, wait_for_lock, swallow])
def test_a_handler_past_the_limit_fails(attach: Attach, work: Callable[[], None]) -> None:
    bus, begun = attach(hanging(work)), time.perf_counter()
    with (
        watch(bus),
        pytest.raises(
            PluginError, match=r"plugin Hanging failed in Hanging.note .* at epoch.end .*HandlerHung: .*0.2 s"
        ),
    ):
        bus[EPOCH_END].emit(epoch_end())
    assert time.perf_counter() - begun < LIMIT + 1
    assert bus.running == []


def test_it_follows_on_error(attach: Attach, caplog: Any) -> None:
    plugin = hanging(sleep, times=1)
    bus = attach(plugin, on_error="warn")
    with watch(bus):
        bus[EPOCH_END].emit(epoch_end())
        bus[EPOCH_END].emit(epoch_end())
    assert plugin.calls == 2
    assert "HandlerHung: it had not ended after 0.2 s (log.hang_limit_seconds)" in caplog.text


def test_a_transform_that_hangs_fails(attach: Attach) -> None:
    class Hanging(Plugin):
        @transform("sample.caption")
        def wait(self, caption: str, sample: Any) -> str:
            sleep()
            return caption

    bus = attach(Hanging())
    with watch(bus), pytest.raises(PluginError, match=r"Hanging.wait .* at sample.caption"):
        bus[SAMPLE_CAPTION].apply("a", sample_context())


def test_a_handler_that_goes_on_hanging_is_broken_off_again(attach: Attach) -> None:
    class Stubborn(Plugin):
        broken = 0

        @on("epoch.end")
        def note(self, event: Any) -> None:
            while self.broken < 2:
                try:
                    sleep()
                except HandlerHung:
                    self.broken += 1

    plugin = Stubborn()
    bus = attach(plugin)
    with watch(bus):
        bus[EPOCH_END].emit(epoch_end())
    assert plugin.broken == 2


def test_the_stack_is_told_once_a_call_and_the_handler_goes_on(attach: Attach, caplog: Any) -> None:
    bus = attach(hanging(lambda: time.sleep(0.5)))
    with watch(bus, soft=0.1, hard=0.0):
        bus[EPOCH_END].emit(epoch_end())
    assert len(caplog.records) == 1
    said = caplog.records[0].getMessage()
    assert said.startswith("plugin Hanging hangs: Hanging.note has taken over 0.1 s at epoch.end; the training thread")
    assert "bus = attach(hanging(lambda: time.sleep(0.5)))" in said or "time.sleep(0.5)" in said


def test_handlers_in_time_are_left_alone(attach: Attach, caplog: Any) -> None:
    bus = attach(hanging(lambda: time.sleep(0.01), times=100))
    with watch(bus, soft=LIMIT):
        for _ in range(40):
            bus[EPOCH_END].emit(epoch_end())
    assert caplog.records == []


class Nested(Plugin):
    """Emits a signal of its own, which another handler of it hangs at, once."""

    INNER = Notification(name="nested.inner", meaning="Inner.", payload=type(epoch_end()))
    declares = (INNER,)

    def __init__(self, *, hangs: str) -> None:
        super().__init__()
        self.hangs, self.ended = hangs, []

    @on("epoch.end")
    def outer(self, event: Any) -> None:
        begun = time.monotonic()
        while self.hangs == "outer" and time.monotonic() < begun + PATIENCE:
            self.bus[self.INNER].emit(event)
        self.bus[self.INNER].emit(event)
        time.sleep(0.6 * LIMIT)  # its own time, which begins anew
        self.ended.append("outer")

    @on("nested.inner")
    def inner(self, event: Any) -> None:
        if self.hangs == "inner":
            sleep()
        time.sleep(0.01)


def test_of_nested_calls_the_one_that_hangs_is_blamed(attach: Attach) -> None:
    plugin = Nested(hangs="inner")
    bus = attach(plugin, on_error="warn")
    with watch(bus):
        bus[EPOCH_END].emit(epoch_end())
    assert plugin.ended == ["outer"]


def test_a_handler_that_keeps_calling_others_is_broken_off_through_them(attach: Attach, caplog: Any) -> None:
    bus = attach(Nested(hangs="outer"), on_error="warn")
    with watch(bus):
        bus[EPOCH_END].emit(epoch_end())
    assert [record.getMessage().split()[4] for record in caplog.records] == ["Nested.outer"]
    assert bus.running == []


def test_two_buses_of_a_thread_share_a_watchdog() -> None:
    first = Bus()
    assert Bus(running=first.running).running is first.running


def test_an_alarm_that_comes_after_the_handlers_end_breaks_nothing_off(attach: Attach) -> None:
    def hold_alarms_back() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
        time.sleep(2 * LIMIT)

    bus = attach(hanging(hold_alarms_back))
    with watch(bus):
        bus[EPOCH_END].emit(epoch_end())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
        assert bus.running == []
        assert signal.SIGALRM not in signal.sigpending(), "it came, and had nothing to break off"


def test_time_between_handlers_counts_for_nobody(attach: Attach, caplog: Any) -> None:
    plugin = hanging(lambda: None, times=2)
    bus = attach(plugin)
    with watch(bus):
        bus[EPOCH_END].emit(epoch_end())
        time.sleep(2 * LIMIT)
        bus[EPOCH_END].emit(epoch_end())
    assert plugin.calls == 2
    assert caplog.records == []


def test_whoever_had_the_alarm_has_it_again(attach: Attach) -> None:
    before = signal.getsignal(signal.SIGALRM)
    with watch(attach()):
        assert signal.getsignal(signal.SIGALRM) is not before
    assert signal.getsignal(signal.SIGALRM) is before


def test_beside_the_main_thread_it_only_tells(attach: Attach, caplog: Any) -> None:
    bus = attach(hanging(lambda: time.sleep(0.5)))

    def work() -> None:
        with watch(bus, soft=0.1, hard=0.2):
            bus[EPOCH_END].emit(epoch_end())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["plugin Hanging hangs"]


def test_a_failing_handler_leaves_the_list_as_it_was(attach: Attach) -> None:
    class Failing(Plugin):
        @on("step.end")
        def note(self, event: Any) -> None:
            raise ValueError

    bus = attach(Failing(), on_error="warn")
    bus.time_handlers()
    bus[STEP_END].emit(step_end())
    assert bus.running == []
