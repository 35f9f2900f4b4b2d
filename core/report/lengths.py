"""How many tokens captions have, and which are longer than the model reads."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from statistics import median_low

from events.catalogue import SAMPLE_CAPTION
from events.payloads import Item, SampleKey

from ..families import DataSide
from ..pages.document import Bars, Block, Table, counted, on_one_line
from .survey import Survey, spread

MOST_CAPTIONS = 20_000
AT_ONCE = 1000
NAMED = 10
MOST_BINS = 12
PIECE = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Tokens of some captions."""

    what: str
    counts: tuple[int, ...]
    owners: tuple[Item, ...]
    """Of those that are too long, the first few."""
    texts: tuple[str, ...]
    """Theirs."""


def length_blocks(survey: Survey, *, with_plugins: bool) -> list[Block]:
    """Token lengths as found and, where plugins change captions, as the epoch shows them.

    Raises PluginError when one of them fails.
    """
    items, limit = survey.sets.training.items, survey.side.token_limit
    chosen = spread(len(items), MOST_CAPTIONS)
    found = _measure("as found", ((item, line) for item in map(items.__getitem__, chosen)
                                  for line in item.caption.split("\n")), survey.side)  # fmt: skip
    measured = [found]
    if with_plugins and survey.maker.bus[SAMPLE_CAPTION].chain:
        measured.append(_measure(f"after the plugins, in epoch {survey.epoch}", _trained(survey, chosen), survey.side))
    rows = tuple(
        (each.what, min(each.counts), median_low(each.counts), max(each.counts), each.counts.count(0),
         sum(count > limit for count in each.counts))
        for each in measured
    )  # fmt: skip
    columns = ("Tokens of captions", "Least", "Median", "Most", "Empty", f"Cut at {limit}")
    blocks: list[Block] = [Table(columns=columns, rows=rows)]
    if len(chosen) < len(items):
        blocks.append(f"Counted on {len(chosen):,} captions spread evenly over {len(items):,}.")
    blocks.append(Bars(title=f"Tokens, {measured[-1].what}", rows=bins(measured[-1].counts, limit)))
    larger = [str(most) for most in (150, 225) if most > survey.config.data.max_tokens]
    return blocks + _too_long(measured[-1], survey.side, " or ".join(larger))


def bins(counts: tuple[int, ...], limit: int) -> tuple[tuple[str, int], ...]:
    """A histogram of at most about a dozen bins; what is over the limit has one of its own.

    >>> bins((0, 3, 4, 4, 90), 75)
    (('0', 1), ('1', 0), ('2', 0), ('3', 1), ('4', 2), ('over 75', 1))
    >>> bins((7, 30, 75), 75)
    (('1–10', 1), ('11–20', 0), ('21–30', 1), ('31–40', 0), ('41–50', 0), ('51–60', 0), ('61–70', 0), ('71–75', 1))
    """
    top = max((count for count in counts if count <= limit), default=0)
    width = next(width for width in (1, 2, 5, 10, 20, 50, 100, limit) if top <= width * MOST_BINS or width == limit)
    rows = [("0", counts.count(0))] if 0 in counts else []
    for first in range(1, top + 1, width):
        last = min(first + width - 1, limit)
        label = f"{first}–{last}" if last > first else f"{first}"
        rows.append((label, sum(first <= count <= last for count in counts)))
    over = sum(count > limit for count in counts)
    return (*rows, (f"over {limit}", over)) if over else tuple(rows)


def split_at_limit(caption: str, side: DataSide) -> tuple[str, str]:
    """What the model reads of a caption, up to the last whole word, and what is cut off."""

    def fits(pieces: int) -> bool:
        return side.count_tokens([caption[: ends[pieces - 1]]])[0] <= side.token_limit

    if side.count_tokens([caption])[0] <= side.token_limit:
        return caption, ""
    ends = [piece.end() for piece in PIECE.finditer(caption)]
    low, high = 0, 1
    while high < len(ends) and fits(high):
        low, high = high, high * 2
    high = min(high, len(ends))
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    place = ends[low - 1] if low else 0
    return caption[:place], caption[place:]


def _trained(survey: Survey, chosen: list[int]) -> Iterator[tuple[Item, str]]:
    items = survey.sets.training.items
    for index in chosen:
        item = items[index]
        yield item, survey.maker.caption(SampleKey(survey.epoch, index, 0), item)


def _measure(what: str, captions: Iterator[tuple[Item, str]], side: DataSide) -> Lengths:
    counts: list[int] = []
    owners: list[Item] = []
    texts: list[str] = []
    while some := list(islice(captions, AT_ONCE)):
        for (item, caption), count in zip(some, side.count_tokens([caption for _, caption in some]), strict=True):
            counts.append(count)
            if count > side.token_limit and len(owners) < NAMED:
                owners.append(item)
                texts.append(caption)
    return Lengths(what=what, counts=tuple(counts), owners=tuple(owners), texts=tuple(texts))


def _too_long(lengths: Lengths, side: DataSide, larger: str) -> list[Block]:
    over = sum(count > side.token_limit for count in lengths.counts)
    if not over:
        return [f"No caption is longer than the {side.token_limit} tokens that are read."]
    tails = [split_at_limit(text, side)[1] for text in lengths.texts]
    rows = tuple(
        (item.id, side.count_tokens([text])[0], on_one_line(tail.strip(" ,\n"), 80))
        for item, text, tail in zip(lengths.owners, lengths.texts, tails, strict=True)
    )
    said = f"{counted(over, 'caption is', 'captions are')} longer than the {side.token_limit} tokens that are read"
    remedy = f"; data.max_tokens = {larger} reads more." if larger else "."
    title = "Too long" if over == len(rows) else f"Too long, the first {len(rows)}"
    return [said + remedy, Table(title=title, columns=("Picture", "Tokens", "What is not read"), rows=rows)]
