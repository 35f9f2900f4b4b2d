"""The epoch plan: which samples stand in which batch, a pure function of (items, buckets, batch size, seed, epoch)."""

import hashlib
from collections.abc import Iterator, Sequence
from random import Random

from events.payloads import Item, SampleKey
from events.randomness import Streams

from .buckets import Size

Plan = tuple[tuple[SampleKey, ...], ...]


def plan_epoch(items: Sequence[Item], sizes: Sequence[Size], batch_size: int, seed: int, epoch: int) -> Plan:
    """Every item at its weight, each batch from one bucket, batches shuffled over buckets.

    `sizes` holds each item's bucket. A bucket's last batch may be short; nothing is dropped.
    """
    random = Streams(seed, "epoch.plan", epoch).py
    by_bucket: dict[Size, list[SampleKey]] = {}
    for key in _deal(items, epoch, random):
        by_bucket.setdefault(sizes[key.item], []).append(key)
    batches: list[tuple[SampleKey, ...]] = []
    for _, keys in sorted(by_bucket.items()):
        random.shuffle(keys)
        batches += [tuple(keys[start : start + batch_size]) for start in range(0, len(keys), batch_size)]
    random.shuffle(batches)
    return tuple(batches)


def plan_problems(plan: Plan, sizes: Sequence[Size]) -> Iterator[str]:
    """What a batch of a plan cannot be: of items that are not there, or of more than one size."""
    for number, batch in enumerate(plan):
        strangers = [key.item for key in batch if not 0 <= key.item < len(sizes)]
        if strangers:
            yield f"batch {number} names item {strangers[0]} of {len(sizes)}"
        elif len({sizes[key.item] for key in batch}) > 1:
            yield f"batch {number} mixes pictures of different sizes"


def digest(plan: Plan, items: Sequence[Item]) -> str:
    """A short fingerprint of which items stand where, to notice that a resumed run would train on another plan."""
    names = [[(items[key.item].id, key.repeat) for key in batch] for batch in plan]
    return hashlib.blake2b(repr(names).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _deal(items: Sequence[Item], epoch: int, random: Random) -> list[SampleKey]:
    """Keys for the whole part of each weight, then one more for each fraction that the epoch's draw grants."""
    keys = []
    for index, item in enumerate(items):
        shown = int(item.weight)
        if item.weight > shown:
            shown += random.random() < item.weight - shown
        keys += [SampleKey(epoch, index, repeat) for repeat in range(shown)]
    return keys
