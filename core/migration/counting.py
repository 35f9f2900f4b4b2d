"""Batches in an epoch of pictures that another trainer was told of, for what it counts in epochs."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..config.tables import DataTable

Size = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A folder or list of pictures, as an epoch shows it."""

    root: str
    times: float = 1.0
    balances: bool = False
    """It is shown as often as all others together, whatever `times` is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What was found of the pictures."""

    batches: int
    """In an epoch."""
    uses: frozenset[str]
    """Settings of single pictures that only a plugin can put into effect, as core.data.scan names them."""


MULTIPLE = 64
"""Sides of pictures are taken to be multiples of this many pixels, since no model is asked."""


def count(data: DataTable, shown: Sequence[Shown], batch_size: int, held_out: float = 0.0) -> Counted:
    """By the sizes of the pictures, of which headers alone are read; `held_out` is the share for validation.

    Raises DataError or ConfigError for pictures that cannot be used.
    """
    from ..data.buckets import assign_sizes
    from ..data.scan import scan
    from ..pictures.header_cache import HeaderCache

    trained: defaultdict[Size, float] = defaultdict(float)
    balancing: defaultdict[Size, float] = defaultdict(float)
    uses: set[str] = set()
    looking = data.model_copy(update={"check": "headers", "max_bad_fraction": 1.0})
    with HeaderCache(None) as cache:
        for one in shown:
            found = scan(looking, cache, roots=[Path(one.root)], hashes=False)
            items = found.items
            uses |= found.uses.keys()
            geometry = assign_sizes(items, MULTIPLE, looking)
            counts = balancing if one.balances else trained
            for number, multiply in zip(geometry.index[:, 0].tolist(), items.multiply.tolist(), strict=True):
                if number >= 0:
                    counts[geometry.sizes[number]] += multiply * one.times
    share = sum(trained.values()) / sum(balancing.values()) if balancing else 0.0
    for size, pictures in balancing.items():
        trained[size] += pictures * share
    kept = [pictures * (1 - held_out) for pictures in trained.values()]
    return Counted(batches=sum(math.ceil(round(one, 6) / batch_size) for one in kept), uses=frozenset(uses))
