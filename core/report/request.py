"""What `run.py data` is asked for, and the answer."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from events.bus import Bus
from events.catalogue import BATCH_HOST

from ..config.tables import Config, PluginSource
from ..errors import ConfigError, DataError
from ..pages.document import Section, counted
from ..pages.markup import Markup, element
from ..pages.page import section_markup, write_page
from ..pages.terminal import print_report
from .card import card
from .contents import report, report_of_unusable
from .effects import Effects
from .plan_file import require_plan_suffix, write_plan
from .sheet import Sheet
from .survey import Survey, surveyed

LOOK = Path("data-look.html")
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The command's options."""

    html: Path | None = None
    look: int = 0
    """Samples on a contact sheet; 0: no sheet but the report."""
    plan: Path | None = None
    epochs: int = 0
    """That the plan covers; 0: the whole run."""
    epoch: int = 0
    """Whose batches and samples are shown."""

    def require_sense(self) -> None:
        """Raises ConfigError for options that cannot be followed, before anything is scanned."""
        problems = []
        if self.epochs and self.plan is None:
            problems.append("--epochs  says how many epochs --plan covers; add --plan FILE")
        if self.plan is not None:
            require_plan_suffix(self.plan)
        for name, path in (("--html", self.html), ("--plan", self.plan)):
            if path is not None and not path.resolve().parent.is_dir():
                problems.append(f"{name}  {path.parent} is no folder; make it first")
        if problems:
            raise ConfigError("data", problems)


def answer(request: Request, config: Config, bus: Bus, plugins: PluginSource, tell: Tell) -> None:
    """Print or write what was asked for.

    Raises DataError, after what can be said of them, for data that cannot be trained on, and PluginError for a plugin
    that fails on a sample.
    """
    request.require_sense()
    effects = Effects()
    effects.watch_training(bus)
    try:
        with surveyed(config, bus, plugins, request.epoch) as survey:
            if request.plan is not None:
                samples, steps = write_plan(survey, request.plan, request.epochs)
                tell(f"{request.plan}: {counted(samples, 'sample')} of {counted(steps, 'step')}")
            if request.look:
                tell(f"{_write_sheet(request, survey)}")
            elif request.plan is None or request.html is not None:
                _deliver(request, config, report(survey, effects, with_pictures=request.html is not None), tell)
    except DataError as error:
        _deliver(request, config, report_of_unusable(config, error), tell)
        raise DataError(str(error).partition("\n")[0].rstrip(":")) from error
    finally:
        bus.close()
    if effects.failure is not None:
        raise effects.failure


def _deliver(request: Request, config: Config, sections: list[Section], tell: Tell) -> None:
    if request.html is None:
        print_report(sections)
        return
    subtitle = f"What {config.run.name} trains on"
    write_page(request.html, "The data", subtitle, map(section_markup, sections))
    tell(f"{request.html}")


def _write_sheet(request: Request, survey: Survey) -> Path:
    path = request.html or LOOK
    write_page(path, "A look at the data", _subtitle(request, survey), _cards(request, survey))
    return path


def _subtitle(request: Request, survey: Survey) -> str:
    count = min(request.look, len(survey.sets.training.items))
    return (
        f"{counted(count, 'sample')} of {counted(len(survey.sets.training.items), 'picture')},"
        f" as epoch {survey.epoch} of {survey.config.run.name} shows them"
    )


def _cards(request: Request, survey: Survey) -> Iterator[Markup]:
    handlers = survey.maker.bus[BATCH_HOST].handlers
    if handlers:
        names = ", ".join(dict.fromkeys(handler.plugin for handler in handlers))
        yield element("p", f"Whole batches are then changed by {names} (batch.host), which is not shown here.")
    for number, shown in enumerate(Sheet(survey).samples(request.look), start=1):
        yield card(number, shown, survey.config.train.accumulate)
