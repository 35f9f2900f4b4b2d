"""What each handler of the data makes of the configured data: the values that it is given, and those that it returns."""

from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy
from PIL import Image
from torch import Tensor

from events.bus import Bus
from events.catalogue import BATCH_HOST, DATA_ITEMS, DATA_READY, EPOCH_PLAN, RUN_CONFIGURE
from events.signals import Handler

from ..attached.watch import watch
from ..config.tables import Config, PluginSource
from ..data.failures import LoadFailure, raise_failure
from ..data.samples import SampleRoom
from ..data.sets import find_sets
from ..errors import ConfigError
from ..pages.document import counted
from ..pages.thumbnails import picture_of
from ..report.sheet import SIGNALS, Change, Sheet, Shown
from ..report.survey import Survey, run_info, surveyed
from ..run.session import configure
from .steps import Rows, config_rows, item_rows, plan_rows, rows_of, value_text

LOOKED_AT = 16
"""Samples, until the chain changes one, when none is asked for."""
OF_SAMPLES = tuple(spec.name for spec in SIGNALS)
OF_PICTURES = ("sample.image", "sample.pixels")
"""Signals whose values are pictures."""
Key = tuple[str, str]
"""Plugin and method."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which sample is asked for; when neither is set, the first that the chain changes."""

    sample: int = 0
    """Its place in the first epoch, counted from 1."""
    item: str = ""
    """The id of its item, or the name of its file."""


@dataclass(slots=True, kw_only=True)
class Example:
    """Real values on their way through a chain."""

    about: str = ""
    by_handler: dict[Key, Rows] = field(default_factory=dict)
    """What each handler was given and returned."""
    end: Rows = ()
    """What becomes of the value behind the chain."""
    pictures: dict[str, Image.Image] = field(default_factory=dict)
    """By file name."""

    def add(self, handler: Handler, rows: Rows) -> None:
        key = handler.plugin, handler.label
        self.by_handler[key] = (*self.by_handler.get(key, ()), *rows)


def example_of(signal: str, config: Config, bus: Bus, plugins: PluginSource, source: str, choice: Choice) -> Example:
    """Of a signal of the data, or of the config, whose file is `source`.

    Raises what training would for data that cannot be used, PluginError for a handler that fails, and ConfigError for a
    sample that is not there.
    """
    with bus[DATA_READY].muted():  # nobody is to be told of a run
        if signal == RUN_CONFIGURE.name:
            return _of_config(config, bus, source)
        config = configure(bus, config, source)
        if signal == DATA_ITEMS.name:
            return _of_items(config, bus)
        if signal == EPOCH_PLAN.name:
            return _of_plan(config, bus, plugins)
        with surveyed(config, bus, plugins, epoch=0) as survey:
            return _of_batch(survey) if signal == BATCH_HOST.name else _of_sample(signal, survey, choice)


def _of_config(config: Config, bus: Bus, source: str) -> Example:
    example = Example(about=f"{source}, as it is read and completed")
    watch(bus[RUN_CONFIGURE], lambda handler, before, after: example.add(handler, config_rows(before, after)))
    configure(bus, config, source)
    return example


def _of_items(config: Config, bus: Bus) -> Example:
    """Validation sets of the config are handed through the same chain, after the training pictures."""
    example = Example(about="all pictures that the scan finds")
    sets, seen = ["the training pictures", *config.validation.sets], dict[Key, int]()

    def note(handler: Handler, before: Any, after: Any) -> None:
        key = handler.plugin, handler.label
        number = seen[key] = seen.get(key, -1) + 1
        of_set: Rows = (("of", sets[number]),) if len(sets) > 1 else ()
        example.add(handler, (*of_set, *item_rows(before, after)))

    watch(bus[DATA_ITEMS], note)
    with TemporaryDirectory(prefix="signalbox-", ignore_cleanup_errors=True) as folder:
        found = find_sets(bus, run_info(config, Path(folder)), config)
    example.end = (("trained on", counted(len(found.training), "picture")),)
    return example


def _of_plan(config: Config, bus: Bus, plugins: PluginSource) -> Example:
    example, changes = Example(about="the plan of the first epoch"), list[tuple[Handler, Any, Any]]()
    watch(bus[EPOCH_PLAN], lambda handler, before, after: changes.append((handler, before, after)))
    with surveyed(config, bus, plugins, epoch=0) as survey:
        for handler, before, after in changes:
            example.add(handler, plan_rows(before, after, survey.sets.training.items))
        samples, batches = counted(len(survey.plan.items), "sample"), counted(len(survey.plan), "batch", "batches")
    example.end = (("in the end", f"{samples} in {batches}"),)
    return example


def _of_batch(survey: Survey) -> Example:
    example = Example(about="the first batch of the first epoch")
    watch(survey.maker.bus[BATCH_HOST], lambda handler, before, after: example.add(handler, rows_of(before, after)))
    loaded = SampleRoom(survey.maker, survey.side.tokenize)[survey.plan[0]]
    if isinstance(loaded, LoadFailure):
        raise_failure(loaded)
    return example


def _of_sample(signal: str, survey: Survey, choice: Choice) -> Example:
    shown, about = _chosen(signal, Sheet(survey), choice)
    changes = [change for change in shown.changes if change.signal == signal]
    example = Example(about=about, end=_end(signal, shown))
    for change in changes:
        example.by_handler[change.plugin, change.label] = rows_of(change.before, change.after)
    if signal in OF_PICTURES and shown.picture is not None:
        first = shown.picture.original if signal == "sample.image" else picture_of(shown.picture.cropped)
        values = [("before", first), *((change.plugin, _as_picture(change)) for change in changes)]
        example.pictures = {f"{signal}-{number}-{name}.png": image for number, (name, image) in enumerate(values)}
    return example


def _chosen(signal: str, sheet: Sheet, choice: Choice) -> tuple[Shown, str]:
    """The sample that is asked for, or the first that the chain changes; with words on which it is."""
    total = len(sheet.survey.plan.items)
    if choice.sample or choice.item:
        place = choice.sample - 1 if choice.sample else _place_of(choice.item, sheet.survey)
        if place >= total:
            raise ConfigError(
                "plan", [f"--sample  {choice.sample}, but the first epoch has {counted(total, 'sample')}"]
            )
        return _shown(sheet, place)
    for place in range(min(total, LOOKED_AT)):
        shown, about = _shown(sheet, place)
        if any(change.changed for change in shown.changes if change.signal == signal):
            return shown, f"{about}, the first that this chain changes"
    shown, about = _shown(sheet, 0)
    return shown, f"{about}; the chain changes none of the first {min(total, LOOKED_AT)}"


def _shown(sheet: Sheet, place: int) -> tuple[Shown, str]:
    ((batch, key),) = sheet.at([place])
    shown = sheet.show(batch, key)
    unusable = f"; its file {shown.problem}, so another picture stands in for it" if shown.picture is None else ""
    return shown, f"{shown.item.id}, sample {place + 1} of the first epoch{unusable}"


def _place_of(name: str, survey: Survey) -> int:
    """The first place in the plan of the item of this id or file name. Raises ConfigError when there is none."""
    ids = [item.id for item in survey.sets.training.items]
    found = [index for index, one in enumerate(ids) if one == name] or [
        index for index, one in enumerate(ids) if one.endswith(f"/{name}") or Path(one).stem == name
    ]
    if not found:
        near = get_close_matches(name, ids, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else f", such as {ids[0]!r}"
        raise ConfigError("plan", [f"--item  {name!r} is no item of the data{hint}"])
    places = numpy.flatnonzero(survey.plan.items == found[0])
    if not len(places):
        raise ConfigError("plan", [f"--item  {ids[found[0]]!r} is not shown in the first epoch"])
    return int(places[0])


def _as_picture(change: Change) -> Image.Image:
    image: Image.Image | Tensor = change.after
    return picture_of(image) if isinstance(image, Tensor) else image


def _end(signal: str, shown: Shown) -> Rows:
    if signal == "sample.caption":
        words = shown.words
        cut = f"; not read: {value_text(words.cut)}" if words.cut else ""
        return (("the model reads", value_text(words.trained)), ("tokens", f"{words.tokens} of {words.limit}{cut}"))
    if signal == "sample.settings":
        return (("the step is given", value_text(shown.settings)),)
    if shown.picture is None:
        return ()
    return (("the model sees", value_text(shown.picture.made.pixels)),)
