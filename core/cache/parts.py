"""What the passes of both products share: the parts of a run, how a pass is told, and what is counted."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, TypeVar

from events.bus import Bus
from events.catalogue import CACHE_END, CACHE_START, SAMPLE_IMAGE
from events.control import Control
from events.payloads import CacheEnd, CacheStart, Product, RunInfo, SampleContext
from events.spec import Transform

from ..compute.device import Device
from ..config.tables import Config
from ..data.maker import SampleMaker
from ..families import Family
from ..ranks.crew import ONE, Crew, Value
from .chance import Watched
from .keys import Recipe, Variations, why_orphaned
from .store import Store

log = logging.getLogger("signalbox.cache")
Makers = Mapping[str, SampleMaker]
"""By data set; the one that is trained on is named ""."""
T = TypeVar("T")
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
    crew: Crew = ONE


@dataclass(slots=True)
class Tally:
    """What a pass has found and done, on one rank or on all."""

    reused: int = 0
    missing: int = 0
    orphaned: int = 0
    encoded: int = 0
    unreadable: int = 0

    @property
    def left(self) -> int:
        """What a pass that was broken off has not come to."""
        return self.missing - self.encoded - self.unreadable

    def add(self, counts: Iterable[Mapping[str, int]]) -> None:
        """Those of ranks."""
        for one in counts:
            for name, count in one.items():
                setattr(self, name, getattr(self, name) + count)


def variations_of(maker: SampleMaker, *signals: Transform[Any, SampleContext]) -> Variations:
    """The numbers of the plugins that handle these signals, and of the trainer's own choices about pictures."""
    handled = {handler.plugin for signal in signals for handler in maker.bus[signal].handlers}
    counts = {table.variations for table in maker.plugins.tables if table.name in handled and table.variations}
    own = maker.settings.data.variations
    if own and SAMPLE_IMAGE in signals and maker.makes_choices():
        counts.add(own)
    return Variations(counts=tuple(sorted(counts)))


def compared(store: Store, needed: Iterable[bytes], recipe: Recipe, makers: Makers) -> Value:
    """What a store has of what is needed, and why it has more than that."""
    comparison, why = store.compare(needed), dict[str, int]()
    orphaned = comparison.orphaned
    if orphaned:
        known = frozenset(item.id for maker in makers.values() for item in maker.items)
        why = dict(Counter(why_orphaned(row, recipe, known) for _, row, _ in comparison.orphans()))
    counts = {"reused": comparison.reused, "missing": comparison.missing, "orphaned": orphaned}
    return {"counts": counts, "why": why}


def begin(parts: CacheParts, product: Product, found: Sequence[Value]) -> Tally:
    """Say what is there and what is missing; `found` are the comparisons of the machines that the run is on."""
    tally, why = Tally(), Counter[str]()
    for one in found:
        tally.add([one["counts"]])
        why.update(one["why"])
    listed = "".join(f"; {count} of {reason}" for reason, count in why.items())
    log.info("%s: %d reused, %d to encode, %d orphaned%s", product, tally.reused, tally.missing, tally.orphaned, listed)
    if parts.bus[CACHE_START].chain:
        parts.bus[CACHE_START].emit(
            CacheStart(
                run=parts.run, product=product, reused=tally.reused, missing=tally.missing, orphaned=tally.orphaned,
                why=dict(why),
            )
        )  # fmt: skip
    return tally


def until_stopped(parts: CacheParts, things: Iterable[T]) -> Iterator[T]:
    """One by one, until any rank is asked to stop."""
    for thing in things:
        yield thing
        if parts.crew.is_to_stop(parts.control):
            return


def end(parts: CacheParts, product: Product, tally: Tally, begun: float) -> None:
    """Say what the pass has done since `begun`, on all ranks together."""
    seconds = perf_counter() - begun
    left = f"; stopped with {tally.left} left, where the next start goes on" if tally.left > 0 else ""
    log.info("%s: %d reused, %d encoded, in %.1f s%s", product, tally.reused, tally.encoded, seconds, left)
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
