"""Handlers run by (priority, position of the plugin in the config, order of definition in the class), everywhere (P3)."""

import os
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events import Plugin, on
from events.bus import Bus
from events.catalogue import EPOCH_END, EPOCH_START
from events.testing import epoch_end
from tests.events.conftest import Attach, table_of
from tests.small_runs import ROOT


class First(Plugin):
    @on("epoch.end")
    def a(self, event: Any) -> None: ...

    @on("epoch.end", priority=10)
    def b(self, event: Any) -> None: ...

    @on("epoch.end")
    def c(self, event: Any) -> None: ...

    @on("epoch.start")
    def d(self, event: Any) -> None: ...


class Second(Plugin):
    @on("epoch.end", priority=10)
    def z(self, event: Any) -> None: ...

    @on("epoch.end")
    def a(self, event: Any) -> None: ...


def order(bus: Bus, spec: Any = EPOCH_END) -> list[str]:
    return [f"{handler.plugin}.{handler.function.__name__}" for handler in bus[spec].handlers]


def test_priority_then_position_then_definition(attach: Attach) -> None:
    assert order(attach(First(), Second())) == ["First.b", "Second.z", "First.a", "First.c", "Second.a"]


def test_the_position_in_the_config_decides_among_equals(attach: Attach) -> None:
    assert order(attach(Second(), First())) == ["Second.z", "First.b", "Second.a", "First.a", "First.c"]


def test_the_config_sets_the_priority_of_a_whole_plugin(attach: Attach) -> None:
    bus = attach(First(), (Second(), {"priority": 5}))
    assert order(bus) == ["Second.z", "Second.a", "First.b", "First.a", "First.c"]


def test_the_config_sets_the_priority_at_one_signal_and_leaves_the_others(attach: Attach) -> None:
    bus = attach((First(), {"priority": {"epoch.end": 60}}), Second())
    assert order(bus) == ["Second.z", "Second.a", "First.a", "First.b", "First.c"]
    assert bus[EPOCH_START].handlers[0].priority == 50


def test_what_is_called_is_called_in_that_order(attach: Attach) -> None:
    bus = attach(First(), Second())
    assert [call.__name__ for call in bus[EPOCH_END].chain] == ["b", "z", "a", "c", "a"]


def test_methods_of_base_classes_come_first(attach: Attach) -> None:
    class Base(Plugin):
        @on("epoch.end")
        def second(self, event: Any) -> None: ...

    class Child(Base):
        @on("epoch.end")
        def first(self, event: Any) -> None: ...

    assert order(attach(Child())) == ["Child.second", "Child.first"]


def test_timing_and_tracing_leave_the_order(attach: Attach, tmp_path: Any) -> None:
    bus = attach(First(), Second())
    before = order(bus)
    bus.time_handlers()
    bus.trace(tmp_path / "trace.jsonl")
    bus[EPOCH_END].emit(epoch_end())
    traced = (tmp_path / "trace.jsonl").read_text().splitlines()
    assert order(bus) == before
    assert [line.split('"')[7].replace(":First", "").replace(":Second", "") for line in traced] == ["", *before]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=8))
def test_any_priorities_give_the_sorted_order(priorities: list[tuple[int, int]]) -> None:
    plugins: list[tuple[Plugin, Any]] = []
    for position, pair in enumerate(priorities):
        methods = {
            f"m{place}": on("epoch.end", priority=one)(lambda self, event: None) for place, one in enumerate(pair)
        }
        plugin = type("Made", (Plugin,), methods)(name=f"P{position}")
        plugins.append((plugin, table_of(plugin, position)))
    bus = Bus()
    bus.attach(plugins)
    places = [handler.order for handler in bus[EPOCH_END].handlers]
    assert places == sorted(
        (one, position, place) for position, pair in enumerate(priorities) for place, one in enumerate(pair)
    )
    assert bus[EPOCH_END].chain == tuple(handler.call for handler in bus[EPOCH_END].handlers)


SCRIPT = """
from events import Plugin, on
from events.bus import Bus
from events.catalogue import EPOCH_END
from events.plugin import PluginTable
from events.testing import epoch_end
heard = []
def kind(number):
    class Made(Plugin):
        @on("epoch.end", priority=number % 3)
        def handle(self, event):
            heard.append(f"P{number}")
    return Made
bus = Bus()
bus.attach([(kind(place)(), PluginTable(use="x.Y", name=f"P{place}", position=place, settings={}))
            for place in range(12)])
bus[EPOCH_END].emit(epoch_end())
print(" ".join(heard))
"""


@pytest.mark.parametrize("seed", ["0", "1", "2", "31337"])
def test_every_process_has_the_same_order(seed: str) -> None:
    """blinker's own order follows the hashes of a process."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert done.stdout.split() == [f"P{number}" for rest in range(3) for number in range(rest, 12, 3)]
