"""torch generators that are at a place of the run, and module initialisation that leaves the global state alone."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor

from events.randomness import Place, derive

T = TypeVar("T")
CORE = ""
"""The stream of the trainer's own part, beside one for each plugin."""


class PlaceGenerator(torch.Generator):
    """The stream of one plugin at the place that its `PlaceStreams` is at."""

    streams: "PlaceStreams"

    def of(self, plugin: str) -> "PlaceGenerator":
        """Another plugin's stream at the same place, for the function that a plugin builds on."""
        return self.streams.of(plugin)


class PlaceStreams:
    """The generators of one purpose, whose draws follow from where the run is: (seed, purpose, step, item, repeat, plugin).

    `at` moves them; `of` seeds and returns the stream of one plugin there, so that plugins do not shift each other's
    draws. It is no generator itself: whoever draws has to say whose stream it is. Seeding never waits for the device.
    """

    def __init__(self, device: torch.device, *root: int | str) -> None:
        self._device = device
        self._root: Place = root
        self._place: Place = root
        self._generators: dict[str, PlaceGenerator] = {}

    def at(self, *place: int | str) -> "PlaceStreams":
        """Move to a place below the root."""
        self._place = (*self._root, *place)
        return self

    def of(self, plugin: str) -> PlaceGenerator:
        generator = self._generators.get(plugin)
        if generator is None:
            generator = self._generators[plugin] = PlaceGenerator(self._device)
            generator.streams = self
        generator.manual_seed(derive(*self._place, plugin))
        return generator


def draw_each(
    draw: Callable[[T, Any], Tensor], values: Sequence[T], streams: PlaceStreams, places: Sequence[Place]
) -> Tensor:
    """Draw sample by sample, each at its own place, and join the results along the batch.

    One sample at a time, so that a sample's draw does not depend on its neighbours in the batch.
    """
    return torch.cat([draw(value, streams.at(*place)) for value, place in zip(values, places, strict=True)])


@contextmanager
def seeded_initialisation(*place: int | str) -> Generator[None, None, None]:
    """Seed torch's global generator for libraries that draw initial weights from it, and put its state back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(*place))
        yield
