"""torch generators that are at a place of the run, and module initialisation that leaves the global state alone."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor

from events.randomness import Place, derive

T = TypeVar("T")
CORE = ""
"""The stream of the trainer's own part, beside one for each plugin."""


class PlaceGenerator(torch.Generator):
    """A generator whose draws follow from where the run is: (seed, purpose, step, item, repeat, plugin).

    `at` moves it; `of` gives the stream of one plugin at that place, so that plugins do not shift each other's draws.
    Seeding never waits for the device.
    """

    def __new__(cls, device: torch.device, *place: int | str) -> "PlaceGenerator":
        return super().__new__(cls, device=device)  # type: ignore[call-arg]  # the stub hides that it is made in __new__

    def __init__(self, device: torch.device, *place: int | str) -> None:
        self._root: Place = place
        self._place: Place = place
        self._children: dict[str, PlaceGenerator] = {}
        self._parent: PlaceGenerator = self

    def at(self, *place: int | str) -> "PlaceGenerator":
        """Move to a place below the root."""
        self._place = (*self._root, *place)
        return self

    def of(self, plugin: str) -> "PlaceGenerator":
        """The stream of a plugin at the place this generator, or the one it belongs to, is at."""
        parent = self._parent
        child = parent._children.get(plugin)
        if child is None:
            child = parent._children[plugin] = PlaceGenerator(self.device)
            child._parent = parent
        child.manual_seed(derive(*parent._place, plugin))
        return child


def draw_each(
    draw: Callable[[T, PlaceGenerator], Tensor], values: Sequence[T], generator: PlaceGenerator, places: Sequence[Place]
) -> Tensor:
    """Draw sample by sample, each at its own place, and join the results along the batch.

    One sample at a time, so that a sample's draw does not depend on its neighbours in the batch.
    """
    return torch.cat([draw(value, generator.at(*place)) for value, place in zip(values, places, strict=True)])


@contextmanager
def seeded_initialisation(*place: int | str) -> Generator[None, None, None]:
    """Seed torch's global generator for libraries that draw initial weights from it, and put its state back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(*place))
        yield
