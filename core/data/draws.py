"""The random streams of one sample, which know who drew from them and whose draws repeat.

A plugin whose table says `variations = N` draws by the number of times its item was shown, modulo N, in place of the
epoch: the same N results come again and again, so that a cache can hold them and a run without a cache sees the same.
"""

from collections.abc import Callable, Mapping
from random import Random
from typing import TYPE_CHECKING

from events.payloads import SampleKey
from events.randomness import Streams

if TYPE_CHECKING:
    import numpy
    import torch

CROP = "data.crop"
"""The stream of the trainer's own choices, in the place of a plugin's name."""
Note = Callable[[str], None]
"""Called with the name of a plugin that draws without variations."""


class SampleDraws(Streams):
    """Hands each handler its own streams; `of(plugin, signal)` is how a transform asks for them."""

    __slots__ = ("_note", "_repeating", "_shown", "_variations")

    def __init__(
        self, seed: int, key: SampleKey, item_id: str, *, shown: int, variations: Mapping[str, int], note: Note
    ) -> None:
        """`shown` counts how often the run has shown the item before this sample."""
        super().__init__(seed, "sample", key.epoch, item_id, key.repeat, key.variant)
        self._repeating = (seed, "sample", "variation", item_id)
        self._shown, self._variations, self._note = shown, variations, note

    def of(self, *further: int | str) -> Streams:
        plugin = str(further[0]).partition("#")[0]  # a plugin's second handler is plugin#2
        count = self._variations.get(plugin)
        if count:
            return Streams(*self._repeating, self._shown % count, *further)
        return NotedStreams(self._note, plugin, *self.place, *further)


class NotedStreams(Streams):
    """Tells at the first draw whose they are."""

    __slots__ = ("_note", "_plugin")

    def __init__(self, note: Note, plugin: str, *place: int | str) -> None:
        super().__init__(*place)
        self._note, self._plugin = note, plugin

    def of(self, *further: int | str) -> Streams:
        return NotedStreams(self._note, self._plugin, *self.place, *further)

    @property
    def py(self) -> Random:
        self._note(self._plugin)
        return super().py

    @property
    def np(self) -> "numpy.random.Generator":
        self._note(self._plugin)
        return super().np

    @property
    def torch(self) -> "torch.Generator":
        self._note(self._plugin)
        return super().torch
