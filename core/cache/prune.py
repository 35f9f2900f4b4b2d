"""What caches hold that a config does not need: shown by reason, and taken out when that is wanted."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .caches import Caches
from .keys import why_orphaned
from .store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphans:
    """Of one product."""

    product: str
    path: Path
    keys: tuple[bytes, ...]
    by_reason: dict[str, int]
    held_bytes: int
    reused: int
    missing: int


def find_orphans(caches: Caches) -> Iterator[Orphans]:
    """For each cache that the config switches on and that can be used; nothing is encoded or changed."""
    for one in caches.passes:
        if not one.store.path.exists() or not one.settle():
            continue
        comparison = one.store.compare(one.needed())
        known = frozenset(item.id for maker in one.makers.values() for item in maker.items)
        rows = list(comparison.orphans())
        yield Orphans(
            product=one.store.path.stem, path=one.store.path, keys=tuple(key for key, _, _ in rows),
            by_reason=dict(Counter(why_orphaned(about, one.recipe, known) for _, about, _ in rows)),
            held_bytes=sum(held for _, _, held in rows), reused=comparison.reused, missing=comparison.missing,
        )  # fmt: skip


def remove(orphans: Orphans) -> None:
    """Take them out and give their space back."""
    store = Store(orphans.path)
    store.remove(orphans.keys)
    store.close()
