"""What the passes of both products share: the parts of a run, how a pass is told, and what is counted."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from events.bus import Bus
from events.catalogue import CACHE_END, CACHE_START, SAMPLE_IMAGE
from events.control import Control
from events.payloads import CacheEnd, CacheStart, Product, RunInfo, SampleContext
from events.spec import Transform

from ..config import Config
from ..data.maker import SampleMaker
from ..device import Device
from ..families import Family
from .chance import Watched
from .keys import Recipe, Variations, why_orphaned
from .store import Comparison, Store

log = logging.getLogger("signalbox.cache")
Makers = Mapping[str, SampleMaker]
"""By data set; the one that is trained on is named ""."""
RANDOM_FIELDS = frozenset({"epoch", "repeat"})
"""What a handler may read of its sample that is another with each showing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheParts:
    """Of the run that a cache is filled for."""

    config: Config
    run: RunInfo
    bus: Bus
    control: Control
    family: Family
    device: Device
    trained: tuple[str, ...]
    """Names of the modules that are trained."""


class LeftToChance(Exception):
    """A transform before the encoder is random after all; `plugins` are named."""

    def __init__(self, plugins: Iterable[str]) -> None:
        self.plugins = tuple(sorted(plugins))
        super().__init__(", ".join(self.plugins))


@dataclass(slots=True)
class Tally:
    """What a pass has done."""

    reused: int = 0
    encoded: int = 0
    unreadable: int = 0
    orphaned: int = 0


def variations_of(maker: SampleMaker, *signals: Transform[Any, SampleContext]) -> Variations:
    """The numbers of the plugins that handle these signals, and of the trainer's own choices about pictures."""
    handled = {handler.plugin for signal in signals for handler in maker.bus[signal].handlers}
    counts = {table.variations for table in maker.plugins.tables if table.name in handled and table.variations}
    own = maker.settings.data.variations
    if own and SAMPLE_IMAGE in signals and maker.makes_choices():
        counts.add(own)
    return Variations(counts=tuple(sorted(counts)))


def begin(
    parts: CacheParts, product: Product, store: Store, needed: Iterable[bytes], recipe: Recipe, makers: Makers
) -> tuple[Comparison, Tally]:
    """Hold what is needed against what is there, and say so."""
    comparison = store.compare(needed)
    tally, missing = Tally(reused=comparison.reused, orphaned=comparison.orphaned), comparison.missing
    why: dict[str, int] = {}
    if tally.orphaned:
        known = frozenset(item.id for maker in makers.values() for item in maker.items)
        why = dict(Counter(why_orphaned(row, recipe, known) for _, row, _ in comparison.orphans()))
    listed = "".join(f"; {count} of {reason}" for reason, count in why.items())
    log.info("%s: %d reused, %d to encode, %d orphaned%s", product, tally.reused, missing, tally.orphaned, listed)
    if parts.bus[CACHE_START].chain:
        parts.bus[CACHE_START].emit(
            CacheStart(
                run=parts.run, product=product, reused=tally.reused, missing=missing, orphaned=tally.orphaned, why=why
            )
        )
    return comparison, tally


def end(parts: CacheParts, product: Product, tally: Tally, begun: float) -> None:
    """Say what the pass has done since `begun`."""
    seconds = perf_counter() - begun
    log.info("%s: %d reused, %d encoded, in %.1f s", product, tally.reused, tally.encoded, seconds)
    if parts.bus[CACHE_END].chain:
        parts.bus[CACHE_END].emit(
            CacheEnd(
                run=parts.run, product=product, reused=tally.reused, encoded=tally.encoded,
                unreadable=tally.unreadable, orphaned=tally.orphaned, seconds=seconds,
            )
        )  # fmt: skip


def why_random(seen: Watched) -> str:
    """Why a data set's product cannot be cached, or nothing."""
    drawn = seen.drawn | (seen.read & RANDOM_FIELDS)
    if drawn:
        return chance_text(drawn)
    if seen.touches_global:
        return "a plugin draws from a global random generator; let it draw from sample.rng and say variations = N"
    return ""


def chance_text(names: Iterable[str]) -> str:
    return f"{', '.join(sorted(names))} draws anew each time a sample is shown; say variations = N in its [[plugins]] table"
