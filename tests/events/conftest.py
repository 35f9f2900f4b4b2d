"""What the tests of the bus share: plugins attached as a config would attach them, and closed again after the test."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from events import Plugin
from events.bus import Bus
from events.lanes import Lanes
from events.plugin import PluginTable

Attach = Callable[..., Bus]


def table_of(plugin: Plugin, position: int = 0, **options: Any) -> PluginTable:
    """The plugin's entry in a config, with its `priority`, `on_error` or `name` as options."""
    kind = type(plugin)
    options = {"name": plugin.name, "settings": {}} | options
    return PluginTable(use=f"{kind.__module__}.{kind.__qualname__}", position=position, **options)


@pytest.fixture
def attach() -> Iterator[Attach]:
    """`attach(plugin, (plugin, {"on_error": "warn"}))` in the order of a config; options are of all plugins."""
    buses: list[Bus] = []

    def make(*plugins: Any, lanes: Lanes | None = None, where: Any = ("training", "worker"), **options: Any) -> Bus:
        bus = Bus(lanes=lanes)
        buses.append(bus)
        entries = [entry if isinstance(entry, tuple) else (entry, {}) for entry in plugins]
        bus.attach(
            [(plugin, table_of(plugin, place, **(options | own))) for place, (plugin, own) in enumerate(entries)],
            where=where,
        )
        return bus

    yield make
    for bus in buses:
        bus.close(grace_seconds=2.0)
