"""Watching a signal tells of each call and changes nothing; a difference is seen in whatever a value holds."""

from dataclasses import replace
from typing import Any

import numpy
import pytest
import torch
from PIL import Image

from core.attached.watch import differs, watch
from events import Plugin, transform
from events.bus import Bus
from events.catalogue import SAMPLE_CAPTION
from events.errors import PluginError
from events.payloads import SampleSettings
from events.plugin import PluginTable
from events.testing import sample_context


class Draw(Plugin):
    """Adds a drawn number, or forgets to return."""

    @transform("sample.caption")
    def draw(self, caption: str, sample: Any) -> Any:
        return None if caption == "forget" else f"{caption} {sample.rng.py.random()}"


def bus_of(*names: str) -> Bus:
    bus = Bus()
    tables = [PluginTable(use="x.Draw", name=name, position=place, settings={}) for place, name in enumerate(names)]
    bus.attach([(Draw(), table) for table in tables], where=("worker",))
    bus.seal()
    return bus


def test_watching_tells_each_handlers_before_and_after_and_leaves_the_draws_as_they_are() -> None:
    alone, watched = bus_of("one", "two"), bus_of("one", "two")
    seen: list[tuple[str, str, str]] = []
    watch(watched[SAMPLE_CAPTION], lambda handler, before, after: seen.append((handler.plugin, before, after)))
    result = watched[SAMPLE_CAPTION].apply("a", sample_context())
    assert result == alone[SAMPLE_CAPTION].apply("a", sample_context())
    assert [(plugin, before) for plugin, before, _ in seen] == [("one", "a"), ("two", seen[0][2])]
    assert seen[1][2] == result


def test_a_wrong_value_is_still_refused_by_the_name_of_its_plugin() -> None:
    bus, seen = bus_of("one"), []
    watch(bus[SAMPLE_CAPTION], lambda *told: seen.append(told))
    with pytest.raises(PluginError, match=r"plugin one failed.*got None"):
        bus[SAMPLE_CAPTION].apply("forget", sample_context())
    assert seen == []


RED = Image.new("RGB", (2, 2), "red")
SETTINGS = SampleSettings(extras={"a": torch.zeros(2)})


@pytest.mark.parametrize(
    ("before", "same", "other"),
    [
        ("a", "a", "b"),
        (RED, RED.copy(), Image.new("RGB", (2, 2), "blue")),
        (RED, RED.copy(), Image.new("RGB", (4, 1), "red")),
        (torch.zeros(2), torch.zeros(2), torch.ones(2)),
        (numpy.zeros(2), numpy.zeros(2), numpy.ones(2)),
        ({"a": torch.zeros(2)}, {"a": torch.zeros(2)}, {"b": torch.zeros(2)}),
        (({"a": 1}, {}), ({"a": 1}, {}), ({"a": 2}, {})),
        (SETTINGS, replace(SETTINGS, extras={"a": torch.zeros(2)}), replace(SETTINGS, extras={"a": torch.ones(2)})),
        (SETTINGS, replace(SETTINGS, extras={"a": torch.zeros(2)}), replace(SETTINGS, loss_scale=2.0)),
        (1, 1, "1"),
    ],
)
def test_a_difference_is_one_of_content(before: object, same: object, other: object) -> None:
    assert not differs(before, same)
    assert differs(before, other)
