"""The report of a run as one page: no scripts, no network; made of the run's files alone."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..pages.document import Bars, Block, Facts, Listing, Section, Table, Verbatim, counted
from ..pages.page import section_markup, write_page
from .curve_section import curve_section
from .curves import short
from .facts import Data
from .going_on import OVER, how_to_go_on
from .previews import evolution
from .reading import VALIDATION, LogLine, RunHistory
from .time_section import plan_section, time_section
from .words import duration, ending, in_utc, left_to_do, steps_text

FILE = "report.html"
"""In the run's folder."""
MOST_WARNINGS = 100
"""Different ones that are shown."""
MOST_SIGNS, MOST_SIGNS_IN_ROW = 5000, 300
"""Of a message that are shown in whole, and in the table."""
NUMBER = re.compile(r"\d+")


def write_report(history: RunHistory, path: Path) -> None:
    """The page of one run. Raises ConfigError for a place that cannot be written to."""
    write_page(path, history.name, _subtitle(history), map(section_markup, _sections(history)))


def _sections(history: RunHistory) -> Iterator[Section]:
    yield _overview(history)
    yield curve_section(history)
    if history.rounds:
        yield Section(title="Previews", blocks=(evolution(history),))
    if history.session is not None and history.session.seconds:
        yield time_section(history.session)
    if history.data is not None:
        yield _data(history.data)
    yield _warnings(history)
    yield plan_section(history)
    yield _made_of(history)
    yield Section(
        title="Config", blocks=(Verbatim(text=history.config_text.strip() or "empty", title="The whole config.toml"),)
    )


def _subtitle(history: RunHistory) -> str:
    session = history.session
    if session is None:
        return "A run without a record"
    at = f" at step {session.first_step:,}" if session.first_step else ""
    until = f", ended {in_utc(session.ended)}" if session.ended else ""
    return f"Began {in_utc(session.began)}{at}{until}"


def _overview(history: RunHistory) -> Section:
    session, best = history.session, history.best()
    facts = [("State", history.state), ("Step", steps_text(history.step, history.steps))]
    if best is not None:
        metric, step, value = best
        named = f"Lowest {'validation ' if metric.startswith(VALIDATION) else ''}loss"
        facts.append((named, f"{short(value)} at step {step:,}"))
    if session is not None and session.seconds:
        facts.append(("Time", duration(sum(session.seconds.values()))))
    blocks: list[Block] = [Facts(rows=tuple(facts))]
    if history.state != "complete":
        blocks.append(f"{ending(history)}.")
    if session is not None and history.state == "failed":
        blocks.append(Verbatim(text=session.error))
    if history.state not in OVER:
        blocks += [f"What goes on with it{left_to_do(history)}:", Verbatim(text=how_to_go_on(history))]
    if history.problems:
        blocks.append(Listing(title="Files that could not be read", lines=history.problems))
    return Section(title="The run", blocks=tuple(blocks))


def _data(data: Data) -> Section:
    facts = [("Pictures", f"{data.items:,}"), ("Without a caption", f"{data.without_caption:,}")]
    facts += [("Set aside", f"{data.set_aside:,}")]
    facts += [(f"Held out as {name}", f"{count:,}") for name, count in data.validation.items()]
    blocks: list[Block] = [Facts(rows=tuple(facts))]
    if data.buckets:
        rows = tuple((name.replace("x", " × "), count) for name, count in data.buckets.items())
        blocks.append(Bars(title="Pictures by size", rows=rows))
    if data.problems:
        more = data.set_aside - len(data.problems)
        lines = (*data.problems, *((f"and {more:,} more",) if more > 0 else ()))
        blocks.append(Listing(title="What was set aside", lines=lines))
    return Section(title="Data", blocks=tuple(blocks))


@dataclass(slots=True)
class Told:
    """Lines of the log that differ in their numbers alone."""

    first: LogLine
    last: LogLine
    count: int = 0


def _warnings(history: RunHistory) -> Section:
    alike: dict[tuple[str, str], Told] = {}
    for line in history.warnings:
        told = alike.setdefault((line.level, NUMBER.sub("#", line.text)), Told(line, line))
        told.last, told.count = line, told.count + 1
    if not alike:
        return Section(title="Warnings and errors", blocks=("There are none in the log.",))
    shown = [*alike.values()][:MOST_WARNINGS]
    rows = tuple(
        (_first_line(told.first.text), told.first.level, told.count, in_utc(told.first.time), in_utc(told.last.time))
        for told in shown
    )
    said = (
        counted(len(history.warnings), "line") + " of the log; those that differ in their numbers alone are told once."
    )
    table = Table(columns=("message", "level", "times", "first", "last"), rows=rows)
    longer = [
        Verbatim(title=_first_line(told.first.text), text=told.first.text[:MOST_SIGNS])
        for told in shown if _first_line(told.first.text) != told.first.text
    ]  # fmt: skip
    return Section(title="Warnings and errors", blocks=(said, table, *longer))


def _first_line(text: str) -> str:
    line = text.partition("\n")[0]
    return line if len(line) <= MOST_SIGNS_IN_ROW else f"{line[:MOST_SIGNS_IN_ROW]}…"


def _made_of(history: RunHistory) -> Section:
    session = history.session
    if session is None:
        return Section(title="Plugins and versions", blocks=("The run has no record of them.",))
    blocks: list[Block] = []
    if session.plugins:
        rows = tuple((one.name, one.use, one.version) for one in session.plugins)
        blocks.append(Table(columns=("plugin", "class", "version"), rows=rows))
    blocks.append(_versions(session.versions))
    return Section(title="Plugins and versions", blocks=tuple(blocks))


def _versions(versions: Mapping[str, str]) -> Table:
    return Table(columns=("package", "version"), rows=tuple(versions.items()))
