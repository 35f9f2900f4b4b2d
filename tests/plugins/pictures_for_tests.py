"""Pictures that the tests of image plugins work on, and what is asked of each such plugin."""

from typing import Any

import numpy
from PIL import Image

from events import Plugin
from events.bus import Bus
from events.payloads import SampleContext
from events.plugin import PluginTable
from events.randomness import Streams
from events.testing import Harness, sample_context
from tests.small_runs import PICTURES

COLOURS = Image.fromarray(numpy.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=numpy.uint8))
"""Each pixel of another colour."""
OWL = Image.open(PICTURES / "birds" / "owl.png").convert("RGB")
GREYS = Image.fromarray(numpy.arange(256, dtype=numpy.uint8).repeat(3).reshape(16, 16, 3))


class Drawn(Exception):
    """Somebody asked for a random number."""


class NoDraws(Streams):
    """Streams that nobody draws from."""

    def of(self, *further: int | str) -> "NoDraws":
        return self

    @property
    def py(self) -> Any:
        raise Drawn

    np = torch = py


def in_validation(plugin: Plugin, signal: str, value: Any) -> Any:
    """The value as a sample of a validation set."""
    bus = Bus()
    table = PluginTable(use="x", name=plugin.name, position=0, settings={})
    bus.attach([(plugin, table)], where=("worker",), validation=True)
    found: Any = next(one for one in bus.signals if one.name == signal)
    return found.apply(value, sample_context())


def draws_nothing(plugin: Plugin, signal: str, value: Any) -> bool:
    """Whether a sample is treated without a random number, so that its result can be cached."""
    context = sample_context()
    still = SampleContext(
        **{name: getattr(context, name) for name in SampleContext.__dataclass_fields__ if name != "rng"}, rng=NoDraws()
    )
    try:
        Harness(plugin).apply(signal, value, still)
    except Exception as error:
        if isinstance(error.__cause__ or error, Drawn):
            return False
        raise
    return True
