"""The data as training would find it, and a few samples of it on their way through the plugins."""

from collections.abc import Generator
from contextlib import contextmanager

from events.bus import Bus
from events.catalogue import DATA_READY
from events.errors import PluginError

from ..config.tables import Config, ModelTable, PluginSource
from ..data.table import ItemTable
from ..errors import DataError
from ..report.effects import Effects
from ..report.survey import Survey, surveyed
from .findings import Findings


@contextmanager
def look_at_data(
    config: Config, table: ModelTable, bus: Bus, plugins: PluginSource, found: Findings
) -> Generator[ItemTable, None, None]:
    """Find, divide and plan the data, and give the items that would be trained on. `table` is the model's.

    Raises what training would for data that cannot be used.
    """
    looked_at = config.model_copy(update={"model": table})
    with bus[DATA_READY].muted(), surveyed(looked_at, bus, plugins, epoch=0) as survey:  # nobody is to be told of a run
        _tell(survey, found)
        with found.looking():
            _try_samples(survey)
        yield survey.sets.training.items


def _tell(survey: Survey, found: Findings) -> None:
    sets = survey.sets
    items, aside = sets.training.items, sets.problems
    others = "".join(f", {len(one.items)} to validate with ({name})" for name, one in sets.validation.items())
    listed = "".join(f"\n          set aside: {problem}" for problem in aside)
    found.say(
        "data",
        f"{len(items)} {'picture' if len(items) == 1 else 'pictures'}, {sets.without_caption} without a caption{others},"
        f" {len(aside)} set aside{listed}",
    )


def _try_samples(survey: Survey) -> None:
    """Raises PluginError for a plugin that fails on one of a few samples, DataError for samples that cannot be made."""
    effects = Effects()
    effects.measure(survey)
    if isinstance(effects.failure, PluginError):
        raise effects.failure
    if effects.failure is not None:
        raise DataError(str(effects.failure))
