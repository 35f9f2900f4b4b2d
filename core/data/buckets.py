"""Picture sizes to train at: generated, never typed, and closed under turning a picture on its side."""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy

from events.payloads import SampleKey

from ..config.tables import DataTable
from ..errors import ConfigError
from .table import ItemTable, mapped

Size = tuple[int, int]
"""(width, height) in pixels."""


def generate_buckets(resolution: int, multiple: int, max_aspect: float) -> tuple[Size, ...]:
    """Sides in multiples of `multiple`, area at most resolution^2 and as near to it as the sides allow.

    >>> generate_buckets(64, 16, 2.0)
    ((48, 80), (64, 64), (80, 48))
    """
    square = resolution // multiple * multiple
    if not square:
        return ()
    widest: dict[int, int] = {}
    for width in range(square, int(resolution * math.sqrt(max_aspect)) + 1, multiple):
        height = resolution * resolution // width // multiple * multiple
        if height and width <= max_aspect * height:
            widest[height] = width
    wide = {(width, height) for height, width in widest.items()}
    return tuple(sorted(wide | {(height, width) for width, height in wide}))


def nearest_bucket(size: Size, buckets: tuple[Size, ...]) -> Size:
    """The bucket whose aspect ratio is nearest by |log(aspect)|; the larger of two that are equally near."""
    aspect = math.log(size[0] / size[1])
    return min(
        buckets, key=lambda bucket: (abs(math.log(bucket[0] / bucket[1]) - aspect), -bucket[0] * bucket[1], bucket)
    )


def own_bucket(size: Size, resolution: int, multiple: int, max_aspect: float) -> Size | None:
    """The largest size that the picture covers without being enlarged; None when it is smaller than `multiple`.

    >>> own_bucket((300, 200), 512, 64, 2.0), own_bucket((2000, 70), 512, 64, 2.0), own_bucket((60, 200), 512, 64, 2.0)
    ((256, 192), (128, 64), None)
    """
    short, long = (min(side, resolution * 2) // multiple * multiple for side in sorted(size))
    if not short:
        return None
    short = min(short, resolution // multiple * multiple)
    long = min(
        long, int(short * max_aspect) // multiple * multiple, resolution * resolution // short // multiple * multiple
    )
    return (long, short) if size[0] >= size[1] else (short, long)


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Which size each item is trained at, and when: with several resolutions an item takes turns."""

    items: ItemTable
    sizes: tuple[Size, ...]
    index: Any
    """(N, R) int32: the number of the size of each item at each resolution; -1 where it is too small for any."""
    place: Path | None = None
    """The folder that workers map `index` from."""

    def store(self, items: ItemTable, place: Path) -> "Geometry":
        """Write the index to a folder; `items` are the same, stored there too."""
        beside = place / "sizes.npy.new"
        with open(beside, "wb") as file:
            numpy.save(file, self.index)
        beside.replace(place / "sizes.npy")
        return Geometry.open(items, self.sizes, place)

    @staticmethod
    def open(items: ItemTable, sizes: tuple[Size, ...], place: Path) -> "Geometry":
        """Map what `store` wrote."""
        index = mapped(place / "sizes.npy")
        return Geometry(items=items, sizes=sizes, index=index, place=place)

    def __reduce__(self) -> Any:
        if self.place is not None:
            return Geometry.open, (self.items, self.sizes, self.place)
        return _geometry, (self.items, self.sizes, self.index)

    @cached_property
    def shows(self) -> Any:
        """(N,) int64: how often at most an epoch shows each item."""
        return self.items.shows

    def buckets_of(self, items: Any, epochs: Any, repeats: Any) -> Any:
        """The numbers of the sizes of samples at these places, (K,) int32."""
        turns = self.index.shape[1]
        if turns == 1:
            return self.index[items, 0]
        shown = epochs * self.shows[items] + repeats
        first = (self.items.names[items] % turns).astype(numpy.int64)  # so that not all begin with the same resolution
        return self.index[items, (shown + first) % turns]

    def size_of(self, item: int, epoch: int, repeat: int) -> Size:
        """The size of one sample."""
        turns = self.index.shape[1]
        shows = max(1, math.ceil(self.items.multiply[item]))
        turn = (epoch * shows + repeat + int(self.items.names[item])) % turns
        return self.sizes[int(self.index[item, turn])]

    def variation(self, item: int, epoch: int, repeat: int) -> int:
        """How often the item has been shown at this size before; random changes that repeat count by it."""
        shows = max(1, math.ceil(self.items.multiply[item]))
        shown: int = (epoch * shows + repeat) // self.index.shape[1]
        return shown

    def key_of_showing(self, item: int, shown: int) -> SampleKey:
        """The place where the run shows an item for the `shown`-th time, if it shows it as often as it can."""
        shows = max(1, math.ceil(self.items.multiply[item]))
        return SampleKey(shown // shows, item, shown % shows)


def assign_sizes(items: ItemTable, multiple: int, settings: DataTable) -> Geometry:
    """Each item's sizes, by what the config and the item itself say.

    Raises ConfigError for a resolution below the smallest side that the model takes.
    """
    by_resolution = {number: generate_buckets(number, multiple, settings.max_aspect) for number in settings.resolution}
    too_small = [number for number, buckets in by_resolution.items() if not buckets]
    if too_small:
        raise ConfigError(
            "config",
            [f"data.resolution  {too_small[0]} is below {multiple}, the smallest side this model takes"],
        )
    never = numpy.where(items.no_upscale < 0, int(settings.no_upscale), items.no_upscale)
    facts = numpy.concatenate([items.sizes, never[:, None].astype(numpy.int64)], axis=1)
    distinct, inverse = numpy.unique(facts, axis=0, return_inverse=True)
    numbers: dict[Size, int] = {}
    rows = []
    for width, height, fixed in distinct.tolist():
        chosen = _sizes_for((width, height), by_resolution, multiple, settings.max_aspect, fits_only=bool(fixed))
        rows.append([numbers.setdefault(size, len(numbers)) if size else -1 for size in chosen])
    index = numpy.array(rows, dtype=numpy.int32).reshape(-1, len(by_resolution))[inverse.reshape(-1)]
    return Geometry(items=items, sizes=tuple(numbers), index=index)


def _geometry(items: ItemTable, sizes: tuple[Size, ...], index: Any) -> Geometry:
    return Geometry(items=items, sizes=sizes, index=index)


def _sizes_for(
    size: Size, by_resolution: dict[int, tuple[Size, ...]], multiple: int, max_aspect: float, *, fits_only: bool
) -> list[Size | None]:
    """The size at each resolution; where the picture would be enlarged and must not be, the largest that fits."""
    wanted = {resolution: nearest_bucket(size, buckets) for resolution, buckets in by_resolution.items()}
    if not fits_only:
        return list(wanted.values())
    fitting = {
        resolution: bucket for resolution, bucket in wanted.items() if bucket[0] <= size[0] and bucket[1] <= size[1]
    }
    largest = fitting[max(fitting)] if fitting else own_bucket(size, max(by_resolution), multiple, max_aspect)
    return [fitting.get(resolution, largest) for resolution in by_resolution]
