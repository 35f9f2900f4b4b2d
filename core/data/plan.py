"""The epoch plan: which samples stand in which batch, a pure function of (items, sizes, batch size, seed, epoch)."""

import hashlib
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy

from events.payloads import SampleKey
from events.randomness import Streams

from .buckets import Geometry
from .table import ItemTable

Batches = tuple[tuple[SampleKey, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(Sequence[tuple[SampleKey, ...]]):
    """Batches of sample keys, as arrays of K keys; a batch's keys are made when it is asked for."""

    epochs: Any
    items: Any
    repeats: Any
    variants: Any
    """(K,) int64 each, the fields of the keys."""
    ends: Any
    """(B,) int64: where each batch ends."""

    @staticmethod
    def of(batches: Sequence[Sequence[SampleKey]]) -> "Plan":
        """From keys, as an `epoch.plan` handler gives them."""
        rows = numpy.array([tuple(key) for batch in batches for key in batch], dtype=numpy.int64).reshape(-1, 4)
        ends = numpy.cumsum([len(batch) for batch in batches], dtype=numpy.int64)
        return Plan(epochs=rows[:, 0], items=rows[:, 1], repeats=rows[:, 2], variants=rows[:, 3], ends=ends)

    def batches(self) -> Batches:
        """All keys at once, for an `epoch.plan` handler."""
        return tuple(self)

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, index: int) -> tuple[SampleKey, ...]: ...
    @overload
    def __getitem__(self, index: slice) -> list[tuple[SampleKey, ...]]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(f"batch {index} of {len(self)}")
        start, end = int(self.ends[index - 1]) if index else 0, int(self.ends[index])
        columns = (self.epochs, self.items, self.repeats, self.variants)
        return tuple(map(SampleKey, *(column[start:end].tolist() for column in columns)))

    def __iter__(self) -> Iterator[tuple[SampleKey, ...]]:
        return (self[number] for number in range(len(self)))


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSettings:
    """What the config says about batches."""

    seed: int
    batch_size: int
    fill: bool = False
    """Fill a bucket's last batch with copies."""


def plan_epoch(
    items: ItemTable, geometry: Geometry, settings: PlanSettings, epoch: int, accumulate: int = 1, *, once: bool = False
) -> Plan:
    """Every item as often as it says, or `once`; each batch of one size, shuffled over sizes; nothing is dropped.

    Items of one batch_id stand in batches that follow each other, within one step of `accumulate` batches where they fit.
    """
    rng = Streams(settings.seed, "epoch.plan", epoch).np
    chosen, repeats = deal(numpy.ones(len(items)) if once else items.multiply, rng)
    order = rng.permutation(len(chosen))
    chosen, repeats = chosen[order], repeats[order]
    groups = items.groups[chosen].astype(numpy.int64)
    sizes = geometry.buckets_of(chosen, numpy.full(len(chosen), epoch), repeats)
    order = numpy.lexsort((sizes, groups))  # stable, so that each size stays shuffled
    chosen, repeats, groups, sizes = chosen[order], repeats[order], groups[order], sizes[order]
    starts = _batch_starts(groups, sizes, settings.batch_size)
    sequence = _ordered(groups[starts], accumulate, rng)
    picked, ends, variants = _lay_out(starts, len(chosen), sequence, settings)
    chosen, repeats = chosen[picked], repeats[picked]
    return Plan(epochs=numpy.full(len(chosen), epoch), items=chosen, repeats=repeats, variants=variants, ends=ends)


def deal(multiply: Any, rng: Any) -> tuple[Any, Any]:
    """(items, repeats) of an epoch: floor(sum of multiply) of them, whole parts first.

    What remains is drawn among the fractional parts, each item at most once, with a probability proportional to its
    fraction: systematic sampling (Madow 1949) in a random order.
    """
    whole = numpy.floor(multiply).astype(numpy.int64)
    fraction = multiply - whole
    extra = max(0, math.floor(math.fsum(multiply) + 1e-9) - int(whole.sum()))
    if extra:
        candidates = rng.permutation(numpy.flatnonzero(fraction > 0))
        reach = numpy.cumsum(fraction[candidates])
        points = (rng.random() + numpy.arange(extra)) * (reach[-1] / extra)
        drawn = candidates[numpy.minimum(numpy.searchsorted(reach, points, side="right"), len(candidates) - 1)]
        whole[drawn] += 1
    items = numpy.repeat(numpy.arange(len(multiply)), whole)
    first = numpy.repeat(numpy.cumsum(whole) - whole, whole)
    return items, numpy.arange(len(items)) - first


def plan_problems(plan: Plan, geometry: Geometry) -> Iterator[str]:
    """What a batch of a plan cannot be: of items that are not there, or of more than one size."""
    count = len(geometry.index)
    strange = (plan.items < 0) | (plan.items >= count)
    sizes = geometry.buckets_of(numpy.where(strange, 0, plan.items), plan.epochs, plan.repeats)
    starts = numpy.concatenate([[0], plan.ends[:-1]]) if len(plan) else plan.ends
    batch_of = numpy.repeat(numpy.arange(len(plan)), numpy.diff(numpy.concatenate([starts, plan.ends[-1:]])))
    mixed = sizes != sizes[starts][batch_of]
    for number in numpy.unique(batch_of[strange | mixed]).tolist():
        strangers = plan.items[(batch_of == number) & strange]
        if len(strangers):
            yield f"batch {number} names item {strangers[0]} of {count}"
        else:
            yield f"batch {number} mixes pictures of different sizes"


def digest(plan: Plan, names: Any) -> str:
    """A short fingerprint of which items stand where, to notice that a resumed run would train on another plan."""
    found = hashlib.blake2b(digest_size=8)
    for column in (names[plan.items], plan.repeats, plan.variants, plan.ends):
        found.update(numpy.ascontiguousarray(column).tobytes())
    return found.hexdigest()


def _batch_starts(groups: Any, sizes: Any, batch_size: int) -> Any:
    """Where each batch begins in keys that are sorted by group and size."""
    changes = (numpy.diff(groups) != 0) | (numpy.diff(sizes) != 0)
    bounds = [0, *(numpy.flatnonzero(changes) + 1).tolist(), len(groups)]
    pieces = [numpy.arange(start, end, batch_size) for start, end in itertools.pairwise(bounds)]
    return numpy.concatenate(pieces).astype(numpy.int64) if len(groups) else numpy.zeros(0, dtype=numpy.int64)


def _ordered(groups: Any, accumulate: int, rng: Any) -> Any:
    """The order of the batches: shuffled, those of a group together and begun so that they straddle no step.

    Each group is made up to whole steps with single batches; only where those run out may a group at the end straddle.
    """
    single = rng.permutation(numpy.flatnonzero(groups < 0))
    named = numpy.flatnonzero(groups >= 0)
    if not len(named):
        return single
    units = numpy.split(named, numpy.flatnonzero(numpy.diff(groups[named])) + 1)
    whole: list[Any] = []
    rest: list[Any] = []
    for number in rng.permutation(len(units)).tolist():
        lacking = -len(units[number]) % accumulate
        made_up = numpy.concatenate([units[number], single[:lacking]])
        single = single[lacking:]
        (rest if len(made_up) % accumulate else whole).append(made_up)
    chunks = [single[start : start + accumulate] for start in range(0, len(single), accumulate)]
    if chunks and len(chunks[-1]) < accumulate:
        rest.insert(0, chunks.pop())
    blocks = whole + chunks
    return numpy.concatenate([*(blocks[number] for number in rng.permutation(len(blocks)).tolist()), *rest])


def _lay_out(starts: Any, count: int, sequence: Any, settings: PlanSettings) -> tuple[Any, Any, Any]:
    """(positions (K,) of the sorted keys in the plan's order, ends (B,), variants (K,)); short batches are filled."""
    begin, end = starts[sequence], numpy.append(starts[1:], count)[sequence]
    held = end - begin
    lengths = numpy.where(held < settings.batch_size, settings.batch_size, held) if settings.fill else held
    ends = numpy.cumsum(lengths)
    within = numpy.arange(int(lengths.sum())) - numpy.repeat(ends - lengths, lengths)
    held = numpy.repeat(held, lengths)
    return numpy.repeat(begin, lengths) + within % held, ends, within // held
