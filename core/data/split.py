"""Which items are held out for validation: by their id under the run's seed, so that more data moves none of them."""

from collections.abc import Mapping
from typing import Any

import numpy

from events.randomness import derive

from ..errors import DataError
from .table import ItemTable

FULL = float(1 << 63)


def held_out(items: ItemTable, seed: int, fraction: float) -> Any:
    """(N,) bool. About `fraction` of the items, and at least one where any share is asked for.

    An item is held out or not whatever else there is; only the single one of a tiny set depends on the others.
    Items of one batch_id belong together and go the same way, and so do files with the same bytes.
    """
    kept = numpy.zeros(len(items), dtype=bool)
    if fraction <= 0 or len(items) < 2:
        return kept
    places = numpy.array([derive(seed, "validation", _unit(items, index)) for index in range(len(items))]) / FULL
    kept = places < fraction
    kept = kept if kept.any() else places == places.min()
    twins = numpy.isin(items.contents, items.contents[kept & items.hashed]) & items.hashed
    return kept | twins


def require_disjoint(training: ItemTable, validation: Mapping[str, ItemTable]) -> None:
    """Raises DataError naming pictures that are trained on and validated with, by id or by the file's bytes."""
    if not validation:
        return
    problems = []
    for name, items in validation.items():
        shared = numpy.isin(items.contents, training.contents[training.hashed]) & items.hashed
        shared |= numpy.isin(items.names, training.names)
        for index in numpy.flatnonzero(shared).tolist():
            same = (training.contents == items.contents[index]) & training.hashed
            same |= training.names == items.names[index]
            twin = training[int(numpy.flatnonzero(same)[0])].id
            problems.append(f"{items[index].path} of validation set {name} is trained on as {twin}")
    if problems:
        more = f"\n  and {len(problems) - 10} more" if len(problems) > 10 else ""
        listed = "".join(f"\n  {problem}" for problem in problems[:10])
        raise DataError(f"what is validated with must not be trained on; take it out of one of the two:{listed}{more}")


def _unit(items: ItemTable, index: int) -> str:
    item = items[index]
    return item.settings.batch_id or item.id
