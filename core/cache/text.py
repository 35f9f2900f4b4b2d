"""Embeddings of captions: their keys, how workers read them, and which captions a run can show."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from events.payloads import SampleKey

from ..data.maker import SampleMaker
from .keys import digest
from .store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class TextEmbeddings:
    """The cached embeddings of a run as a worker sees them; picklable."""

    store: Store
    recipe_key: bytes

    def key(self, caption: str) -> bytes:
        """Of a caption as the text encoders read it, after every plugin."""
        return digest(self.recipe_key, caption)

    def read(self, caption: str) -> Mapping[str, Tensor] | None:
        return self.store.read(self.key(caption))


@dataclass(frozen=True, slots=True, kw_only=True)
class Worded:
    """A caption after every plugin."""

    caption: str
    drawn: frozenset[str]
    """Plugins that drew without variations."""


class CaptionRoom:
    """Maps a key to its caption, for the pass."""

    def __init__(self, maker: SampleMaker) -> None:
        self._maker = maker

    def __getitem__(self, key: SampleKey) -> Worded:
        maker = self._maker
        maker.drawn.clear()
        caption = maker.caption(key, maker.items[key.item])
        return Worded(caption=caption, drawn=frozenset(maker.drawn))


def all_captions(maker: SampleMaker, variations: int) -> Iterator[Worded]:
    """The caption of each item in each of its variations."""
    room, turns = CaptionRoom(maker), maker.geometry.index.shape[1]
    for item in range(len(maker.items)):
        for variation in range(variations):
            yield room[maker.geometry.key_of_showing(item, variation * turns)]
