"""Where captions came from and how many of them are longer than the model reads, for the start of a run."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ..families import DataSide
from .table import ItemTable

log = logging.getLogger("signalbox.data.scan")
LOOKED_AT = 10_000
"""Captions whose tokens are counted; of a larger data set, so many spread over it."""
AT_ONCE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """Of the captions as the scan found them."""

    sources: dict[str, int]
    """Items by what gave the caption, the most frequent first."""
    empty: int
    too_long: int
    """Of those looked at, how many have more tokens than are read."""
    looked_at: int
    example: str
    """The id of one that is too long."""

    def tell(self, limit: int) -> None:
        """Say where they came from, and warn of those with more tokens than are read."""
        given = ", ".join(f"{count} from {source}" for source, count in self.sources.items())
        log.info("captions: %s%s", given, f"; {self.empty} are empty" if self.empty else "")
        if self.too_long:
            of = "" if self.looked_at < LOOKED_AT else f" of {self.looked_at} looked at"
            log.warning(
                "%d captions%s have more than the %d tokens that are read, such as that of %s; data.max_tokens sets how"
                " many", self.too_long, of, limit, self.example,
            )  # fmt: skip


def look_at_words(items: ItemTable, side: DataSide) -> Words:
    """Sources of all captions, and token counts of at most LOOKED_AT."""
    sources: Counter[str] = Counter()
    empty, step = 0, max(1, len(items) // LOOKED_AT)
    long: list[str] = []
    waiting: list[tuple[str, str]] = []
    looked_at = 0
    for index, item in enumerate(items):
        sources[item.caption_from or "a plugin"] += 1
        empty += not item.caption
        if index % step == 0:
            waiting.append((item.id, item.caption))
            looked_at += 1
        if len(waiting) == AT_ONCE:
            long += _too_long(waiting, side)
            waiting.clear()
    long += _too_long(waiting, side)
    return Words(
        sources=dict(sources.most_common()), empty=empty, too_long=len(long), looked_at=looked_at,
        example=long[0] if long else "",
    )  # fmt: skip


def _too_long(captions: Sequence[tuple[str, str]], side: DataSide) -> list[str]:
    if not captions:
        return []
    counts = side.count_tokens([caption for _, caption in captions])
    return [item_id for (item_id, _), count in zip(captions, counts, strict=True) if count > side.token_limit]
