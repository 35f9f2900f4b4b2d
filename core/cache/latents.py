"""Latents of pictures: their keys, how workers read them, and the pass that encodes what is missing."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from events.payloads import Item, SampleKey

from ..data.buckets import Size
from ..data.draws import CROP
from ..data.maker import Encodable, SampleMaker
from ..pictures.files import reason_of
from .keys import Recipe, Variations, digest
from .store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Latents:
    """The cached latents of one data set as a worker sees them; picklable."""

    store: Store
    recipe_key: bytes
    variations: Variations
    fields: tuple[str, ...]
    """What the transforms read of a sample beyond its picture, which the key then holds too."""

    def key(self, item: Item, content: bytes, size: Size, flip_p: float, shown: int) -> bytes:
        """Of one picture at one size in one of its variations."""
        own = [_plain(item, name) for name in self.fields]
        named = item.id if self.variations.counts else ""  # random draws follow from the id
        return digest(self.recipe_key, content, size, flip_p, named, self.variations.of(shown), own)

    def read(self, maker: SampleMaker, key: SampleKey, item: Item) -> Mapping[str, Any] | None:
        return self.store.read(self.key_at(maker, key, item))

    def key_at(self, maker: SampleMaker, key: SampleKey, item: Item | None = None) -> bytes:
        """Of the picture at a place of the run."""
        item, content = item or maker.items[key.item], maker.items.content(key.item)
        return self.key(item, content, maker.size_of(key), maker.settings.flip_p(item), maker.shown(key))

    def needed(self, maker: SampleMaker) -> Iterator[bytes]:
        """The keys of every result that the data set can show."""
        return (self.key_at(maker, key) for key in all_results(maker, self.variations))


def all_results(maker: SampleMaker, variations: Variations) -> Iterator[SampleKey]:
    """A place in the run for each item, at each of its sizes, in each of its variations."""
    geometry = maker.geometry
    turns = geometry.index.shape[1]
    for item in range(len(maker.items)):
        seen: set[tuple[Size, int]] = set()
        for place in range(turns * variations.total):
            key = geometry.key_of_showing(item, place)
            result = (maker.size_of(key), maker.shown(key) % variations.total)
            if result not in seen:
                seen.add(result)
                yield key


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A picture as the encoder takes it, or why there is none."""

    key: SampleKey
    encodable: Encodable | None
    reason: str = ""
    drawn: frozenset[str] = frozenset()
    """Plugins that drew without variations."""
    read: frozenset[str] = frozenset()
    """What handlers read of the sample beyond its picture."""


class PictureRoom:
    """Maps a key to its picture, for the pass; works in loader processes."""

    def __init__(self, maker: SampleMaker) -> None:
        self.maker = maker

    def __getitem__(self, key: SampleKey) -> Made:
        """A file that cannot be read comes back with its reason; what a plugin raises is raised."""
        maker, item = self.maker, self.maker.items[key.item]
        maker.at_work[0] = key.item
        maker.drawn.clear()
        maker.read.clear()
        try:
            picture = maker.read_file(item, maker.size_of(key), maker.items.facts(key.item))
        except Exception as error:  # Pillow raises many kinds for bad bytes
            return Made(key=key, encodable=None, reason=reason_of(error))
        made = maker.picture(key, item, picture)
        drawn = maker.drawn - {CROP}
        return Made(key=key, encodable=made, drawn=frozenset(drawn), read=frozenset(maker.read))


def entry_of(made: Encodable, mean: torch.Tensor, deviation: torch.Tensor) -> dict[str, torch.Tensor]:
    """What the store keeps of a picture: (C, h, w) moments, its geometry and its mask."""
    entry = {"mean": mean.cpu(), "deviation": deviation.cpu(), "geometry": torch.tensor(made.geometry)}
    return entry if made.mask is None else entry | {"mask": made.mask}


def about(recipe: Recipe, item: Item, size: Size) -> dict[str, Any]:
    return {**recipe.about, "id": item.id, "size": list(size)}


def _plain(item: Item, name: str) -> Any:
    """What a handler reads under this name of its sample's context."""
    value: Any = {"sample_id": item.id, "path": str(item.path)}.get(name)
    if value is not None:
        return value
    value = getattr(item, name)
    return json.loads(json.dumps(value, default=_fields)) if name in ("settings", "extras") else value


def _fields(value: Any) -> Any:
    return {name: getattr(value, name) for name in type(value).__dataclass_fields__}
