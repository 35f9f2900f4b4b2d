"""The data sets of a run: what is trained on and what it is validated with, each with the sizes of its pictures."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

from events.bus import Bus
from events.catalogue import DATA_ITEMS, DATA_READY
from events.payloads import DataContext, DataReady, Item, RunInfo

from ..config.tables import Config
from ..errors import ConfigError, DataError
from ..families import DataSide
from ..invocation import typed
from ..pictures.facts import FileFacts
from ..pictures.headers import HeaderCache
from ..sources.found import Problem
from .buckets import Geometry, Size, assign_sizes
from .scan import SHOWN, Scan, facts_of_item, scan
from .split import held_out, require_disjoint
from .table import ItemTable
from .words import look_at_words

log = logging.getLogger("signalbox.data.scan")
HELD_OUT = "held_out"
"""The validation set that `validation.fraction` holds out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """Items with their sizes."""

    items: ItemTable
    geometry: Geometry


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundSets:
    """What the scan found and the split divided, before the model has said which sizes it takes."""

    training: ItemTable
    validation: Mapping[str, ItemTable]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSets:
    """What a run works with."""

    training: DataSet
    validation: Mapping[str, DataSet]
    problems: tuple[Problem, ...]
    without_caption: int = 0
    """Items that are trained on with an empty caption."""

    def named(self) -> dict[str, DataSet]:
        """All of them, the one that is trained on as ""."""
        return {"": self.training, **self.validation}


def header_cache(config: Config) -> HeaderCache:
    """What is remembered of files that have not changed, shared by all runs."""
    return HeaderCache(config.cache.dir / "files.sqlite")


def find_sets(bus: Bus, run: RunInfo, config: Config) -> FoundSets:
    """Scan, hand every set through `data.items`, and hold out what is validated on.

    Raises DataError when nothing is left or too much is unreadable, when a plugin gave two items one id, and when a
    validation set shares a picture with training; ConfigError for settings of items that nothing reads.
    """
    cache = header_cache(config)
    try:
        needs_hashes = config.cache.latents or config.validation.fraction > 0 or bool(config.validation.sets)
        found = scan(config.data, cache, hashes=needs_hashes)
        require_readers(found, bus)
        look = partial(facts_of_item, data=config.data, cache=cache, hashes=needs_hashes)
        items = _through_plugins(found.items, bus, run, "", look)
        others = {
            name: scan(config.data, cache, roots=[root], names=[name]) for name, root in config.validation.sets.items()
        }
        validation = {name: _through_plugins(other.items, bus, run, name, look) for name, other in others.items()}
    finally:
        cache.close()
    kept = held_out(items, config.run.seed, config.validation.fraction)
    if kept.any():
        if HELD_OUT in validation:
            raise ConfigError(
                "config", [f"validation.sets.{HELD_OUT}  is the name of what validation.fraction holds out"]
            )
        items, validation = items.where(~kept), {HELD_OUT: items.where(kept)} | validation
    if not items:
        raise DataError("no item is left to train on; look at validation.fraction and the data.items plugins")
    require_disjoint(items, validation)
    problems = (*found.problems, *(problem for other in others.values() for problem in other.problems))
    _report_problems(problems)
    return FoundSets(training=items, validation=validation, problems=problems)


def prepare_sets(found: FoundSets, side: DataSide, config: Config, bus: Bus, run: RunInfo, folder: Path) -> DataSets:
    """Give every item its sizes, store the tables where workers can map them, and tell with `data.ready`."""
    multiple = side.pixel_multiple
    training, too_small = _prepare(found.training, multiple, config, folder / "training")
    validation = {
        name: _prepare(items, multiple, config, folder / f"validation.{name}")[0]
        for name, items in found.validation.items()
    }
    problems = (*found.problems, *too_small)
    counts = count_buckets(training)
    shown = ", ".join(f"{width}x{height}: {count}" for (width, height), count in counts.items())
    log.info(
        "%d %s in %d %s (%s), %d set aside",
        len(training.items),
        "picture" if len(training.items) == 1 else "pictures",
        len(counts),
        "bucket" if len(counts) == 1 else "buckets",
        shown,
        len(problems),
    )
    words = look_at_words(training.items, side)
    words.tell(side.token_limit)
    for name, one in validation.items():
        log.info("validation set %s: %d pictures", name, len(one.items))
    masks = sum(bool(item.mask) for item in training.items) if config.data.masks != "none" else 0
    if config.data.masks != "none":
        log.info(
            "masks (data.masks = '%s') are active for %d of %d pictures", config.data.masks, masks, len(training.items)
        )
    if bus[DATA_READY].chain:
        bus[DATA_READY].emit(
            DataReady(
                run=run, items=training.items, buckets=MappingProxyType(counts),
                problems=tuple(str(problem) for problem in problems),
                validation={name: len(one.items) for name, one in validation.items()},
            )
        )  # fmt: skip
    return DataSets(training=training, validation=validation, problems=problems, without_caption=words.empty)


def count_buckets(data: DataSet) -> dict[Size, int]:
    """Items by the size that they are first shown at."""
    numbers = Counter(data.geometry.index[:, 0].tolist())
    return dict(sorted((data.geometry.sizes[number], count) for number, count in numbers.items()))


def _prepare(items: ItemTable, multiple: int, config: Config, folder: Path) -> tuple[DataSet, list[Problem]]:
    geometry = assign_sizes(items, multiple, config.data)
    too_small = geometry.index[:, 0] < 0
    problems = [
        Problem(path=item.path, reason=f"{item.width} x {item.height} is below {multiple}, the smallest side, and must"
                " not be enlarged (no_upscale)")
        for index, item in enumerate(items) if too_small[index]
    ]  # fmt: skip
    for problem in problems:
        log.warning("set aside: %s", problem)
    if problems and config.data.on_bad == "stop":
        raise DataError(f"{len(problems)} pictures are too small, and data.on_bad = 'stop': {problems[0]}")
    if problems:
        items = items.where(~too_small)
        if not items:
            raise DataError(f"every picture is too small: {problems[0]}")
        geometry = assign_sizes(items, multiple, config.data)
    items = items.store(folder)
    return DataSet(items=items, geometry=geometry.store(items, folder)), problems


def _through_plugins(
    items: ItemTable, bus: Bus, run: RunInfo, name: str, look: Callable[[Item], FileFacts]
) -> ItemTable:
    """The items after `data.items`; made as objects only if somebody listens. `look` is for files that are new then."""
    if not bus[DATA_ITEMS].chain:
        return items
    before = tuple(items)
    known = {(item.path, item.mask): items.facts(index) for index, item in enumerate(before)}
    after = bus[DATA_ITEMS].apply(before, DataContext(roots=run.data_roots, seed=run.seed, validation=name))
    if not after:
        raise DataError("no item is left after the data.items plugins")
    ids = {item.id for item in after}
    if len(ids) < len(after):
        raise DataError(f"{len(after) - len(ids)} items share an id with another after the data.items plugins")
    return ItemTable.of(after, (known.get((item.path, item.mask)) or look(item) for item in after))


READERS = {
    "cond_dropout": "plugins.captions.DropCaption",
    "shuffle_tags": "plugins.captions.ShuffleTags",
    "keep_tags": "plugins.captions.ShuffleTags",
    "max_caption_length": "plugins.captions.LimitCaption",
    "caption_lines": "plugins.captions.ChooseLine",
    "mask": "plugins.masked_loss.MaskedLoss",
}


def require_readers(found: Scan, bus: Bus) -> None:
    """Raises ConfigError for what items ask for and no plugin of the run does, with what to add."""
    read = {name for plugin in bus.plugins.values() for name in plugin.reads}
    problems = [
        f"data  {count} pictures have {name}, such as {example}, and no plugin of this config reads it; add a"
        f' [[plugins]] table with use = "{READERS[name]}"' + _otherwise(name)
        for name, (count, example) in sorted(found.uses.items()) if name not in read
    ]  # fmt: skip
    if problems:
        raise ConfigError("config", problems)


def _otherwise(name: str) -> str:
    remedies = {"caption_lines": "data.caption_lines = 'first'", "mask": "data.masks = 'none'"}
    return f", or set {remedies.get(name, f'data.ignore_settings = [{name!r}]')}"


def _report_problems(problems: tuple[Problem, ...]) -> None:
    for problem in problems[:SHOWN]:
        log.warning("set aside: %s", problem)
    if len(problems) > SHOWN:
        log.warning("set aside: %d more files; `%s` lists all", len(problems) - SHOWN, typed("data"))
