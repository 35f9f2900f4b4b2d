"""torch generators that are at a place of the run, and module initialisation that leaves the global state alone."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

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
    with seeded_globally(torch.device("cpu"), *place):
        yield


@contextmanager
def seeded_globally(device: torch.device, *place: int | str) -> Generator[None, None, None]:
    """torch's global generators at a place of the run, for layers that take no other; their state is put back.

    It is kept on the host, also that of CUDA, so nothing waits for the device.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(derive(*place))
        yield


DROPOUT_SETTINGS = ("dropout", "dropout_rate", "attention_dropout", "hidden_dropout", "resid_pdrop", "embd_pdrop")
"""Of the configs of modules whose forward draws without a layer for it."""


def draws_in_forward(module: nn.Module) -> bool:
    """Whether a module in training mode has dropout, which draws from torch's global generator."""
    layers = (part.p for part in module.modules() if isinstance(part, nn.modules.dropout._DropoutNd))
    config = getattr(module, "config", None)
    configured = (getattr(config, name, 0.0) for name in DROPOUT_SETTINGS)
    return any(share > 0 for share in (*layers, *configured) if isinstance(share, int | float))
