"""The room where batches are made: in each loader worker, or in the training process when there are none."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy
import torch
from torch import Tensor

from events.bus import Tally
from events.catalogue import BATCH_HOST
from events.payloads import STAND_IN, Batch, BatchContext, Item, SampleKey, SampleSettings
from events.randomness import Streams

from ..compute.tensors import on_tensors
from ..errors import DataError
from ..pictures.files import reason_of
from .failures import LoadFailure, failure_of
from .maker import NOWHERE, SampleMaker
from .padding import without_padding

log = logging.getLogger("signalbox.data")
Tokenize = Callable[[Sequence[str]], Mapping[str, Tensor]]
"""Captions -> token ids (B, L) int64 by text encoder. Picklable, since it travels to the workers."""
Entry = Mapping[str, Tensor]
"""What a cache holds of a picture or a caption, without a batch dimension; empty for a picture that cannot be read."""


class LatentSource(Protocol):
    """The cached latents of a run; picklable."""

    def read(self, maker: SampleMaker, key: SampleKey, item: Item) -> Entry | None:
        """`mean`, `deviation` (C, h, w), `geometry` (6,) and perhaps `mask` (1, h, w); None when it is not held whole."""


class TextSource(Protocol):
    """The cached text embeddings of a run; picklable."""

    def read(self, caption: str) -> Entry | None:
        """What the text encoders make of it, by name; None when it is not held whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A batch, with what went wrong and what the worker's handlers cost while it was made."""

    batch: Batch
    unreadable: tuple[tuple[str, str], ...] = ()
    """(path, reason) of each file that another picture stands in for."""
    tallies: Mapping[tuple[str, str, str], Tally] = field(default_factory=dict)

    def pin_memory(self) -> "Loaded":
        """Page-locked copies, so that the copy to the device does not wait; called by torch's pinning thread."""
        return replace(self, batch=on_tensors(self.batch, Tensor.pin_memory))


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """What a batch needs and the caches do not hold whole; the training process encodes it and makes the batch."""

    keys: tuple[SampleKey, ...]
    """The batch's."""
    pictures: tuple[SampleKey, ...]
    captions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One sample of a batch, on its own."""

    key: SampleKey
    item: Item
    picture: Entry
    caption: str
    settings: SampleSettings


Result = Loaded | Missing | LoadFailure
STAND_INS_TRIED = 8


class SampleRoom:
    """Maps the keys of a batch to the batch."""

    def __init__(
        self,
        maker: SampleMaker,
        tokenize: Tokenize,
        latents: LatentSource | None = None,
        text: TextSource | None = None,
        *,
        trims: bool = False,
    ) -> None:
        """`trims` says that the model looks away from the padding of embeddings, so that it can be left out."""
        self.maker = maker
        self._tokenize = tokenize
        self._latents, self._text = latents, text
        self._trims = trims
        self._unreadable: list[tuple[str, str]] = []
        self._missing: list[SampleKey] = []

    def __len__(self) -> int:
        return len(self.maker.items)

    def __getitem__(self, keys: Sequence[SampleKey]) -> Result:
        """Load one batch; a failure comes back as a value and is raised in the training process."""
        self._unreadable, self._missing = [], []
        try:
            samples = [self._sample(key) for key in keys]
            self.maker.at_work[0] = NOWHERE
            embeddings, unheld = self._embeddings([sample.caption for sample in samples])
            if self._missing or unheld:
                return Missing(keys=tuple(keys), pictures=tuple(self._missing), captions=unheld)
            batch = self._collate(samples, embeddings)
            return Loaded(batch=batch, unreadable=tuple(self._unreadable), tallies=self.maker.take_tallies())
        except Exception as error:
            return failure_of(error)

    def do_without_caches(self) -> None:
        """From now on batches hold pictures and tokens."""
        self._latents = self._text = None

    def close(self) -> None:
        self.maker.close()

    def _sample(self, key: SampleKey) -> Sample:
        key, item, picture = self._picture(key)
        return Sample(
            key=key, item=item, picture=picture, caption=self.maker.caption(key, item),
            settings=self.maker.sample_settings(key, item),
        )  # fmt: skip

    def _picture(self, key: SampleKey) -> tuple[SampleKey, Item, Entry]:
        """The key's picture, or the first readable one of a reserve that follows from the key alone, with its own key.

        Raises DataError when none of the reserve can be read either.
        """
        picture = self._read(key, item := self.maker.items[key.item])
        if picture is not None:
            return key, item, picture
        for index in self._reserve(key, item):
            other = SampleKey(key.epoch, index, key.repeat, STAND_IN * (key.item + 1) + key.variant)
            if (picture := self._read(other, item := self.maker.items[index])) is not None:
                return other, item, picture
        listed = "".join(f"\n  {path}: {reason}" for path, reason in self._unreadable)
        raise DataError(f"neither these pictures nor any that could stand in for them can be read:{listed}")

    def _read(self, key: SampleKey, item: Item) -> Entry | None:
        """The picture from cache or file; None for a file that cannot be read, which is noted with its reason."""
        self.maker.at_work[0] = key.item
        if self._latents is not None:
            entry = self._latents.read(self.maker, key, item)
            if entry is None:
                self._missing.append(key)
                return {}
            if entry:
                return entry
            self._unreadable.append((str(item.path), "could not be read when the cache was filled"))
            return None
        try:
            picture = self.maker.read_file(item, self.maker.size_of(key), self.maker.items.facts(key.item))
        except Exception as error:  # Pillow raises many kinds for bad bytes
            self._unreadable.append((str(item.path), reason_of(error)))
            return None
        made = self.maker.picture(key, item, picture)
        entry = {"pixels": made.pixels, "geometry": torch.tensor(made.geometry)}
        return entry if made.mask is None else entry | {"mask": made.mask}

    def _reserve(self, key: SampleKey, item: Item) -> list[int]:
        """Some items that have the key's size at its place, in an order that follows from the key."""
        geometry = self.maker.geometry
        rng = Streams(self.maker.settings.seed, "reserve", key.epoch, item.id, key.repeat, key.variant)
        everyone = numpy.arange(len(self.maker.items))
        sizes = geometry.buckets_of(
            everyone, numpy.full_like(everyone, key.epoch), numpy.full_like(everyone, key.repeat)
        )
        own = geometry.sizes.index(self.maker.size_of(key))
        same = everyone[(sizes == own) & (everyone != key.item)]
        count = min(STAND_INS_TRIED, len(same))
        return [int(index) for index in rng.np.choice(same, size=count, replace=False)] if count else []

    def _embeddings(self, captions: Sequence[str]) -> tuple[list[Entry], tuple[str, ...]]:
        """What the cache holds of the captions, and those of which it holds nothing whole."""
        if self._text is None:
            return [], ()
        found = {caption: self._text.read(caption) for caption in dict.fromkeys(captions)}
        unheld = tuple(caption for caption, entry in found.items() if entry is None)
        return [entry for caption in captions if (entry := found[caption]) is not None], unheld

    def _collate(self, samples: Sequence[Sample], embeddings: Sequence[Entry]) -> Batch:
        keys, pictures = tuple(sample.key for sample in samples), [sample.picture for sample in samples]
        captions, items = tuple(sample.caption for sample in samples), [sample.item for sample in samples]
        if embeddings and self._trims:
            embeddings = without_padding(embeddings)
        pixels = None if self._latents else torch.stack([picture["pixels"] for picture in pictures])
        batch = Batch(
            pixels=pixels,
            latents=_stack(pictures, "mean", "deviation") if self._latents else {},
            tokens=self._tokenize(captions) if self._text is None else {},
            embeddings=_stack(embeddings, *embeddings[0]) if embeddings else {},
            weight=torch.tensor(_weights(samples), dtype=torch.float32),
            mask=_masks(pictures, self.maker.settings.latent_scale),
            geometry=torch.stack([picture["geometry"] for picture in pictures]),
            keys=keys,
            sample_ids=tuple(item.id for item in items),
            captions=captions,
            paths=tuple(str(item.path) for item in items),
            extras=tuple(sample.settings.extras for sample in samples),
        )
        place = (part for key, item in zip(keys, items, strict=True) for part in (key.epoch, item.id, *key[2:]))
        rng = Streams(self.maker.settings.seed, "batch", *place)
        context = BatchContext(epoch=keys[0].epoch, sample_ids=batch.sample_ids, rng=rng)
        return self.maker.bus[BATCH_HOST].apply(batch, context)


def _weights(samples: Sequence[Sample]) -> list[float]:
    """Each sample's loss scale, divided by how many copies of it the batch holds."""
    places = [(sample.key.item, sample.key.repeat, sample.key.variant // STAND_IN) for sample in samples]
    scales = [sample.settings.loss_scale for sample in samples]
    return [scale / places.count(place) for scale, place in zip(scales, places, strict=True)]


def _masks(pictures: Sequence[Entry], scale: int) -> Tensor | None:
    """(B, 1, h, w); a picture without a mask counts everywhere. None when no picture has one."""
    if not any("mask" in picture for picture in pictures):
        return None
    height, width = (int(side) // scale for side in pictures[0]["geometry"][4:])
    return torch.stack([picture.get("mask", torch.ones(1, height, width)) for picture in pictures])


def _stack(entries: Sequence[Entry], *names: str) -> dict[str, Tensor]:
    return {name: torch.stack([entry[name] for entry in entries]) for name in names}
