"""Samples as training shows them, step by step: the picture and the caption after each plugin."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy
from PIL import Image
from torch import Tensor

from events.catalogue import SAMPLE_CAPTION, SAMPLE_CROP, SAMPLE_IMAGE, SAMPLE_PIXELS, SAMPLE_SETTINGS
from events.payloads import Item, SampleKey, SampleSettings
from events.signals import Handler

from ..attached.watch import differs, watch
from ..data.buckets import Size
from ..data.maker import Encodable
from ..pages.thumbnails import picture_of
from ..pictures.files import reason_of
from .lengths import split_at_limit
from .survey import Survey, spread

SIGNALS = (SAMPLE_IMAGE, SAMPLE_CROP, SAMPLE_CAPTION, SAMPLE_PIXELS, SAMPLE_SETTINGS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What one handler did with one value."""

    signal: str
    plugin: str
    label: str
    before: Any
    after: Any
    changed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """A caption on its way to the model."""

    found: str
    changes: tuple[Change, ...]
    trained: str
    tokens: int
    limit: int
    cut: str
    """The end of the trained caption that the model does not read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A picture on its way to the model."""

    original: Image.Image
    """Upright; a large one may have been decoded smaller."""
    changes: tuple[Change, ...]
    """By `sample.image`, of pictures."""
    made: Encodable
    cropped: Tensor
    """(3, H, W): cut out and resized, before `sample.pixels`."""
    pixel_changes: tuple[Change, ...]
    """By `sample.pixels`, of tensors."""

    @property
    def before_crop(self) -> Image.Image:
        """After every `sample.image` handler."""
        image: Image.Image = self.changes[-1].after if self.changes else self.original
        return image


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One sample."""

    key: SampleKey
    batch: int
    """Of the epoch's, counted from 0."""
    item: Item
    target: Size
    picture: Seen | None
    """None for a file that cannot be read, for which another picture stands in."""
    problem: str
    """Why it cannot."""
    words: Words
    settings: SampleSettings
    settings_changes: tuple[Change, ...]
    changes: tuple[Change, ...]
    """Of all signals, in the order in which they came."""


@dataclass(slots=True)
class Sheet:
    """Makes samples and notes what each handler does with them."""

    survey: Survey
    _changes: list[Change] = field(default_factory=list)

    def __post_init__(self) -> None:
        for spec in SIGNALS:
            watch(self.survey.maker.bus[spec], self._note)

    def choose(self, count: int) -> list[tuple[int, SampleKey]]:
        """(batch, key) of so many different items of the epoch's plan, spread over the data set."""
        items, first = numpy.unique(self.survey.plan.items, return_index=True)
        return self.at([int(first[number]) for number in spread(len(items), count)])

    def at(self, places: Sequence[int]) -> list[tuple[int, SampleKey]]:
        """(batch, key) of the samples at these places of the epoch's plan, counted from 0."""
        plan = self.survey.plan
        columns = (plan.epochs, plan.items, plan.repeats, plan.variants)
        batches = numpy.searchsorted(plan.ends, places, side="right").tolist()
        keys = [SampleKey(*(int(column[place]) for column in columns)) for place in places]
        return list(zip(batches, keys, strict=True))

    def samples(self, count: int) -> Iterator[Shown]:
        """So many, made one by one. Raises PluginError when a plugin fails."""
        for batch, key in self.choose(count):
            yield self.show(batch, key)

    def show(self, batch: int, key: SampleKey) -> Shown:
        """One sample. Raises PluginError when a plugin fails."""
        maker = self.survey.maker
        item, target = maker.items[key.item], maker.size_of(key)
        self._changes.clear()
        picture, problem = self._picture(key, item, target)
        words, settings = self._words(key, item), maker.sample_settings(key, item)
        return Shown(
            key=key, batch=batch, item=item, target=target, picture=picture, problem=problem, words=words,
            settings=settings, settings_changes=self._of("sample.settings"), changes=tuple(self._changes),
        )  # fmt: skip

    def _picture(self, key: SampleKey, item: Item, target: Size) -> tuple[Seen | None, str]:
        maker = self.survey.maker
        try:
            read = maker.read_file(item, target)
        except Exception as error:  # Pillow raises many kinds for bad bytes
            return None, reason_of(error)
        original = read.image.copy()
        made = maker.picture(key, item, read)
        by_pixels = self._of("sample.pixels")
        seen = Seen(
            original=original, changes=self._of("sample.image"), made=made, pixel_changes=by_pixels,
            cropped=by_pixels[0].before if by_pixels else made.pixels,
        )  # fmt: skip
        return seen, ""

    def _words(self, key: SampleKey, item: Item) -> Words:
        side = self.survey.side
        trained = self.survey.maker.caption(key, item)
        return Words(
            found=item.caption, changes=self._of("sample.caption"), trained=trained, limit=side.token_limit,
            tokens=side.count_tokens([trained])[0], cut=split_at_limit(trained, side)[1],
        )  # fmt: skip

    def _of(self, signal: str) -> tuple[Change, ...]:
        return tuple(change for change in self._changes if change.signal == signal)

    def _note(self, handler: Handler, before: Any, after: Any) -> None:
        after = (
            after.clone() if isinstance(after, Tensor) else after.copy() if isinstance(after, Image.Image) else after
        )
        self._changes.append(
            Change(
                signal=handler.signal, plugin=handler.plugin, label=handler.label, before=before, after=after,
                changed=differs(before, after),
            )
        )  # fmt: skip


def overlay(pixels: Tensor, mask: Tensor) -> Image.Image:
    """The picture as it is where the loss counts, and dim and red where it does not."""
    picture = picture_of(pixels)
    weight = Image.fromarray((mask[0] * 255).round().byte().numpy()).resize(picture.size, Image.Resampling.NEAREST)
    dim = Image.blend(picture, Image.new("RGB", picture.size, (150, 40, 40)), 0.75)
    return Image.composite(picture, dim, weight)
