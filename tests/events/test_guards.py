"""Guards look at some calls of every handler, and their complaints name plugin, handler and signal, once."""

from typing import Any

import pytest

from events import Plugin, on
from events.bus import Bus
from events.catalogue import EPOCH_END, METRICS_READY
from events.errors import PluginError
from events.testing import epoch_end, metrics_ready
from tests.events.conftest import Attach


class Watcher(Plugin):
    calls = 0

    @on("epoch.end")
    def note(self, event: Any) -> None:
        self.calls += 1

    @on("metrics.ready")
    async def send(self, event: Any) -> None: ...


class Looking:
    """A guard that notes the calls it looks at, and complains about those in `bad`."""

    def __init__(self, plugin: Watcher, *bad: int) -> None:
        self.plugin, self.bad = plugin, bad
        self.looked: list[int] = []

    def __call__(self) -> "Looking":
        return self

    def before(self) -> int:
        return self.plugin.calls

    def after(self, token: int) -> str | None:
        self.looked.append(token + 1)
        return "did something" if token + 1 in self.bad else None


def call(bus: Bus, times: int) -> None:
    for _ in range(times):
        bus[EPOCH_END].emit(epoch_end())


def test_they_look_at_the_first_calls_ever_more_rarely_and_at_each_64th(attach: Attach) -> None:
    plugin = Watcher()
    guard, bus = Looking(plugin), attach(plugin)
    bus.guard(guard)
    call(bus, 200)
    assert guard.looked == [1, 2, 4, 8, 16, 32, 64, 128, 192]
    assert plugin.calls == 200


def test_a_complaint_is_told_once_with_its_names(attach: Attach, caplog: Any) -> None:
    plugin = Watcher()
    bus = attach(plugin)
    bus.guard(Looking(plugin, 2, 4))
    call(bus, 8)
    assert [record.getMessage() for record in caplog.records] == [
        "plugin Watcher: Watcher.note at epoch.end did something"
    ]


def test_once_a_call_was_not_in_order_every_further_one_is_looked_at(attach: Attach) -> None:
    """So that what it leaves behind is put back each time."""
    plugin = Watcher()
    guard, bus = Looking(plugin, 4), attach(plugin)
    bus.guard(guard)
    call(bus, 7)
    assert guard.looked == [1, 2, 4, 5, 6, 7]


def test_each_handler_has_guards_of_its_own(attach: Attach) -> None:
    plugin, made = Watcher(), []

    def make() -> Looking:
        made.append(Looking(plugin))
        return made[-1]

    bus = attach(plugin, (Watcher(), {"name": "Other"}))
    bus.guard(make)
    call(bus, 1)
    assert [len(guard.looked) for guard in made] == [1, 1]


def test_a_call_that_fails_is_looked_at_too(attach: Attach) -> None:
    class Failing(Watcher):
        @on("epoch.end")
        def note(self, event: Any) -> None:
            raise ValueError("broken")

    plugin = Failing()
    guard, bus = Looking(plugin), attach(plugin)
    bus.guard(guard)
    with pytest.raises(PluginError, match="broken"):
        call(bus, 1)
    assert guard.looked == [1]


def test_async_handlers_are_left_as_they_are(attach: Attach) -> None:
    plugin = Watcher()
    bus = attach(plugin)
    before = bus[METRICS_READY].chain
    bus.guard(Looking(plugin))
    assert bus[METRICS_READY].chain == before
    bus[METRICS_READY].emit(metrics_ready())


def test_disable_finds_the_handler_beneath_its_guards(attach: Attach) -> None:
    class Failing(Watcher):
        @on("epoch.end")
        def note(self, event: Any) -> None:
            self.calls += 1
            raise ValueError

    plugin = Failing()
    bus = attach(plugin, on_error="disable")
    bus.time_handlers()
    bus.guard(Looking(plugin))
    bus.seal()
    call(bus, 5)
    assert plugin.calls == 3
