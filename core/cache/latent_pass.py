"""The pass that encodes the pictures whose latents a run needs and the store lacks."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from events.catalogue import SAMPLE_CROP, SAMPLE_IMAGE, SAMPLE_PIXELS
from events.payloads import SampleKey

from ..data.maker import SampleMaker
from ..data.workers import Workers
from ..errors import DataError
from ..families.parts.encoding import encode_pictures
from ..log.lines import DATA_LOG
from ..ranks.crew import Value
from ..ranks.divided import Divided
from .chance import some_keys, watch
from .division import LeftToChance, ReadsMore, agreed, is_first_here, is_own
from .fingerprint import transforms_before
from .keys import Recipe, module_identity
from .latents import Latents, Made, PictureRoom, about, all_results, entry_of
from .parts import (
    RANDOM_FIELDS,
    CacheParts,
    Makers,
    Tally,
    begin,
    chance_text,
    compared,
    end,
    until_stopped,
    variations_of,
    why_random,
)
from .store import Store

log = logging.getLogger("signalbox.cache")
of_data = logging.getLogger(DATA_LOG)
"""Which every rank shows, as each has pictures of its own to name."""
WRITTEN_AT_ONCE = 64
TOLD_EVERY_SECONDS = 10.0
Row = tuple[bytes, Mapping[str, Tensor], Mapping[str, Any]]


@dataclass(slots=True)
class LatentPass:
    """Of one run over all its data sets."""

    parts: CacheParts
    makers: Makers
    store: Store
    latents: dict[str, Latents] = field(default_factory=dict)
    """By data set, where its latents are cached."""
    recipes: dict[str, Recipe] = field(default_factory=dict)

    def settle(self) -> bool:
        """Decide which data sets can be cached, and say why others cannot; returns whether any can."""
        self.latents.clear()
        found = agreed(self.parts.crew, "looking at how pictures are made", lambda work: self._look())
        for name, maker in self.makers.items():
            why_not = next((one[name]["why_not"] for one in found if one[name]["why_not"]), "")
            if why_not:
                log.warning("latents of %s are not cached: %s", name or "the training pictures", why_not)
            else:
                self._take(name, maker, {known for one in found for known in one[name]["fields"]})
        return bool(self.latents)

    def fill(self) -> None:
        """Encode what is missing of what can be cached, each rank its part."""
        self.settle()
        while self.latents:
            try:
                self._pass()
                return
            except ReadsMore as more:
                self._take_in(more.fields)
            except LeftToChance as chance:
                log.warning("latents are not cached: %s", chance_text(chance.plugins))
                self.latents.clear()

    def give_up(self) -> None:
        """Cache no latents in this run."""
        self.latents.clear()

    @property
    def recipe(self) -> Recipe:
        """Of the pictures that are trained on, or of whatever can be cached."""
        return self.recipes[next(iter(self.latents))]

    def needed(self) -> Iterator[bytes]:
        """The keys of everything that the run can show."""
        return chain.from_iterable(one.needed(self.makers[name]) for name, one in self.latents.items())

    def encode(self, name: str, pictures: Iterable[Made], tally: Tally, total: int = 0) -> None:
        """Encode a data set's pictures as they come, those of one size together, and store them in chunks."""
        waiting: dict[tuple[int, ...], list[Made]] = {}
        rows: list[Row] = []
        told = perf_counter()
        for made in pictures:
            self._refuse_chance(name, made)
            if made.encodable is None:
                self._set_aside(self.makers[name].items[made.key.item].path, made.reason)
                tally.unreadable += 1
                rows.append(self._row(name, made, {}))
            else:
                size = tuple(made.encodable.pixels.shape)
                waiting.setdefault(size, []).append(made)
                if len(waiting[size]) == self.parts.config.train.batch_size:
                    rows += self._encode_alike(name, waiting.pop(size), tally)
            if len(rows) >= WRITTEN_AT_ONCE:
                self.store.write(rows)
                rows.clear()
            if total and perf_counter() - told > TOLD_EVERY_SECONDS:
                log.info("latents: %d of %d encoded", tally.encoded, total)
                told = perf_counter()
        for alike in waiting.values():
            rows += self._encode_alike(name, alike, tally)
        self.store.write(rows)

    def _look(self) -> Value:
        """By data set, why it cannot be cached, or what its transforms read of a sample beyond the picture."""
        family = self.parts.family
        encoder = f"{module_identity(family.modules[family.image_encoder])} fp32 {self.parts.device.device.type}"
        return {name: self._look_at(name, maker, encoder) for name, maker in self.makers.items()}

    def _look_at(self, name: str, maker: SampleMaker, encoder: str) -> Value:
        for item in maker.items:
            if key := maker.settings.random_choices(item):
                why_not = f"{key} draws anew each time a picture is shown; say data.variations = N to have N results"
                return {"why_not": why_not, "fields": []}
        seen = watch(maker, some_keys(maker), PictureRoom(maker).__getitem__)
        if why_not := why_random(seen):
            return {"why_not": why_not, "fields": []}
        recipe = self.recipes[name] = self._recipe(maker, encoder)
        known = frozenset(self.store.note(_note_of(recipe.key)) or ())
        return {"why_not": "", "fields": sorted(known | seen.read)}

    def _take(self, name: str, maker: SampleMaker, fields: Iterable[str]) -> None:
        """Take a data set's latents into the cache."""
        self.latents[name] = Latents(
            store=self.store, recipe_key=self.recipes[name].key, fields=tuple(sorted(fields)),
            variations=variations_of(maker, SAMPLE_IMAGE, SAMPLE_CROP, SAMPLE_PIXELS),
        )  # fmt: skip

    def _recipe(self, maker: SampleMaker, encoder: str) -> Recipe:
        data, counts = maker.settings.data, variations_of(maker, SAMPLE_IMAGE, SAMPLE_CROP, SAMPLE_PIXELS).counts
        settings = {
            "crop": "centre" if maker.settings.validation else data.crop, "decode": data.decode,
            "transparent": data.transparent, "masks": data.masks, "seed": maker.settings.seed if counts else None,
        }  # fmt: skip
        transforms = transforms_before(maker.bus, SAMPLE_IMAGE, SAMPLE_CROP, SAMPLE_PIXELS)
        return Recipe(product="latents", encoder=encoder, transforms=transforms, settings=settings)

    def _take_in(self, fields: frozenset[str]) -> None:
        for name, one in self.latents.items():
            self.latents[name] = replace(one, fields=tuple(sorted({*one.fields, *fields})))
        if is_first_here(self.parts.crew):
            for one in self.latents.values():
                self.store.set_note(_note_of(one.recipe_key), one.fields)

    def _pass(self) -> None:
        begun, crew = perf_counter(), self.parts.crew
        found = agreed(crew, "looking into the cache of pictures", self._compare)
        tally = begin(self.parts, "latents", [one for one in found if one])
        tally.add(agreed(crew, "encoding of pictures", partial(self._encode_own, tally.missing)))
        end(self.parts, "latents", tally, begun)

    def _compare(self, work: Divided) -> Value:
        """Before anything is encoded, on one process of each machine."""
        if not is_first_here(self.parts.crew):
            return {}
        self.store.remove_unreadable()
        return compared(self.store, work.over(self.needed()), self.recipe, self.makers)

    def _encode_own(self, total: int, work: Divided) -> Value:
        """What is missing and falls to this process; returns what was done. `total` is missing on all."""
        tally, crew = Tally(), self.parts.crew
        for name, one in self.latents.items():
            workers = Workers(PictureRoom(self.makers[name]), self.makers[name].settings.data)
            try:
                made = until_stopped(self.parts, work.over(workers.over(self._missing(name, one))))
                self.encode(name, made, tally, -(-total // crew.count))
            finally:
                workers.close()
        return {"encoded": tally.encoded, "unreadable": tally.unreadable}

    def _missing(self, name: str, one: Latents) -> Iterator[SampleKey]:
        maker, crew = self.makers[name], self.parts.crew
        for place in all_results(maker, one.variations):
            key = one.key_at(maker, place)
            if is_own(crew, key) and not self.store.holds(key):
                yield place

    def _encode_alike(self, name: str, alike: list[Made], tally: Tally) -> list[Row]:
        made = [(one, one.encodable) for one in alike if one.encodable is not None]
        pixels = torch.stack([encodable.pixels for _, encodable in made])
        means, deviations = encode_pictures(self.parts.family, pixels.to(self.parts.device.device))
        tally.encoded += len(made)
        return [
            self._row(name, one, entry_of(encodable, mean, deviation))
            for (one, encodable), mean, deviation in zip(made, means, deviations, strict=True)
        ]

    def _set_aside(self, path: Path, reason: str) -> None:
        """Name a picture that is not cached. Raises DataError where the first ends the run."""
        if self.parts.config.data.on_bad == "stop":
            raise DataError(f"{path}: {reason}; data.on_bad = 'stop'")
        of_data.warning("set aside: %s: %s", path, reason)

    def _row(self, name: str, made: Made, entry: Mapping[str, Tensor]) -> Row:
        maker = self.makers[name]
        item, size = maker.items[made.key.item], maker.size_of(made.key)
        return self.latents[name].key_at(maker, made.key), entry, about(self.recipes[name], item, size)

    def _refuse_chance(self, name: str, made: Made) -> None:
        drawn = made.drawn | (made.read & RANDOM_FIELDS)
        if drawn:
            raise LeftToChance(drawn)
        if not made.read <= set(self.latents[name].fields):
            raise ReadsMore(made.read)


def _note_of(recipe_key: bytes) -> str:
    """Under which a store remembers what transforms read of a sample beyond its picture."""
    return f"fields {recipe_key.hex()}"
