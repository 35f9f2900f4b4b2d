"""The items of a run: scanned, handed through `data.items`, and each given the bucket it is trained in."""

import logging
from types import MappingProxyType

from events.bus import Bus
from events.catalogue import DATA_ITEMS, DATA_READY
from events.payloads import DataContext, DataReady, RunInfo

from ..config import DataTable
from ..errors import ConfigError, DataError
from .buckets import Size, generate_buckets, nearest_bucket
from .scan import Scan, scan

log = logging.getLogger("signalbox.data")


def find_items(bus: Bus, run: RunInfo, settings: DataTable) -> Scan:
    """What is to be trained on, and what was set aside with the reason.

    Raises DataError when nothing is left, when too much is unreadable, or when a plugin gave two items one id.
    """
    found = scan(settings.roots, settings.captions, settings.max_bad_fraction)
    for problem in found.problems:
        log.warning("set aside: %s", problem)
    items = bus[DATA_ITEMS].apply(found.items, DataContext(roots=run.data_roots, seed=run.seed))
    if not items:
        raise DataError("no item is left after the data.items plugins")
    ids = {item.id for item in items}
    if len(ids) < len(items):
        raise DataError(f"{len(items) - len(ids)} items share an id with another after the data.items plugins")
    return Scan(items=items, problems=found.problems)


def assign_buckets(found: Scan, multiple: int, settings: DataTable, bus: Bus, run: RunInfo) -> tuple[Size, ...]:
    """Each item's bucket, and `data.ready`, which tells what the run will train on."""
    buckets = generate_buckets(settings.resolution, multiple, settings.max_aspect)
    if not buckets:
        raise ConfigError(
            "config",
            [f"data.resolution  {settings.resolution} is below {multiple}, the smallest side this model takes"],
        )
    sizes = tuple(nearest_bucket((item.width, item.height), buckets) for item in found.items)
    counts = {size: sizes.count(size) for size in sorted(set(sizes))}
    shown = ", ".join(f"{width}x{height}: {count}" for (width, height), count in counts.items())
    log.info("%d pictures in %d buckets (%s), %d set aside", len(sizes), len(counts), shown, len(found.problems))
    if bus[DATA_READY].chain:
        bus[DATA_READY].emit(
            DataReady(run=run, items=found.items, buckets=MappingProxyType(counts), problems=found.problems)
        )
    return sizes
