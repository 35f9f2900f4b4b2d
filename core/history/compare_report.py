"""Two runs compared, on the terminal and as a page."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..config.changes import Change
from ..pages.document import Block, Cell, Chart, Charts, Section, Table, counted, on_one_line
from ..pages.page import section_markup, write_page
from .chart import Curve, line_chart
from .comparison import MetricPair, changed_code, changed_data, changed_settings, same_until, shared_metrics
from .curve_section import RATE, images_per_second, last_step
from .curves import Points, short
from .previews import evenly, side_by_side
from .reading import VALIDATION, RunHistory
from .words import duration, in_utc, steps_text

MOST_SIGNS = 120
"""Of a value of the config that are shown."""
MOST_STEPS = 6
"""At which values are told."""
TOLD = ("loss",)
"""Metrics whose values are told, beside those of validation."""


def compare_sections(one: RunHistory, other: RunHistory) -> list[Section]:
    """Everything that can be said without pictures."""
    names, pairs = names_of(one, other), shared_metrics(one, other)
    sections = [_the_runs(names, one, other), _changes("Config", names, changed_settings(one, other))]
    if one.session is None or other.session is None:
        sections.append(Section(title="Plugins, versions and data", blocks=("Not known of a run without a record.",)))
    else:
        sections.append(_changes("Plugins and versions", names, changed_code(one.session, other.session)))
        sections.append(_changes("Data", names, changed_data(one.data, other.data)))
    return [*sections, Section(title="Curves", blocks=tuple(_curves(names, one, other, pairs)))]


def write_comparison(one: RunHistory, other: RunHistory, path: Path) -> None:
    """The same with curves over each other and previews side by side. Raises ConfigError for a place that cannot be written to."""
    names = names_of(one, other)
    *sections, curves = compare_sections(one, other)
    charts = Charts(charts=tuple(_charts(names, one, other)))
    sections.append(Section(title=curves.title, blocks=(*([charts] if charts.charts else []), *curves.blocks)))
    previews = side_by_side(one, other)
    if previews.columns:
        sections.append(Section(title="Previews", blocks=(previews,)))
    write_page(path, f"{names[0]} and {names[1]}", "Two runs compared", map(section_markup, sections))


def names_of(one: RunHistory, other: RunHistory) -> tuple[str, str]:
    """What they are called; by their folders where they have the same name."""
    if one.name != other.name:
        return one.name, other.name
    return str(one.folder), str(other.folder)


def _the_runs(names: tuple[str, str], one: RunHistory, other: RunHistory) -> Section:
    rows = [("state", one.state, other.state), ("step", *(steps_text(run.step, run.steps) for run in (one, other)))]
    rows.append(("lowest", *(_best(run) for run in (one, other))))
    rows.append(("began", *(in_utc(run.session.began) if run.session else "" for run in (one, other))))
    rows.append(("took", *(_took(run) for run in (one, other))))
    return Section(title=f"{names[0]} and {names[1]}", blocks=(Table(columns=("", *names), rows=tuple(rows)),))


def _best(run: RunHistory) -> str:
    best = run.best()
    return f"{best[0]} {short(best[2])} at step {best[1]:,}" if best else ""


def _took(run: RunHistory) -> str:
    return duration(sum(run.session.seconds.values())) if run.session and run.session.seconds else ""


def _changes(title: str, names: tuple[str, str], changes: Sequence[Change]) -> Section:
    if not changes:
        return Section(title=title, blocks=("The same.",))
    rows = tuple((key, _value(old), _value(new)) for key, old, new in changes)
    return Section(title=title, blocks=(Table(columns=("", *names), rows=rows),))


def _value(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, dict) and "use" in value:  # a plugin that the other run has not
        settings = ", ".join(f"{key} = {one}" for key, one in value.items() if key not in ("use", "name"))
        return on_one_line(settings or "as it is", MOST_SIGNS)
    return on_one_line(str(value), MOST_SIGNS)


def _curves(names: tuple[str, str], one: RunHistory, other: RunHistory, pairs: Sequence[MetricPair]) -> Iterator[Block]:
    for name, run in zip(names, (one, other), strict=True):
        if not run.curves:
            yield f"{name} wrote no numbers; plugins.metrics_file.MetricsFile writes metrics.jsonl, of which curves are."
    known = [pair for pair in pairs if pair.shared]
    if not known:
        if one.curves and other.curves:
            yield "They have no step with a number in common."
        return
    yield _agreement(known)
    parted = [pair for pair in known if pair.parting is not None]
    if parted:
        yield _differences(names, parted)
        if alike := [pair.name for pair in known if pair.parting is None]:
            yield f"The same at every step that both have: {', '.join(alike)}."
    for pair in parted:
        if pair.name in TOLD or pair.name.startswith(VALIDATION):
            yield _values(names, pair)


def _agreement(pairs: Sequence[MetricPair]) -> str:
    """Up to where the curves are the same."""
    until, count = same_until([*pairs]), len({step for pair in pairs for step, _, _ in pair.shared})
    if all(pair.parting is None for pair in pairs):
        return f"The curves are the same to the last digit at every step that both have: {counted(count, 'step')} until {until:,}."
    if until is None:
        return f"The curves differ from the first step on, of {counted(count, 'step')} that both have."
    return f"The curves are the same to the last digit until step {until:,}, and differ after it."


def _differences(names: tuple[str, str], pairs: Sequence[MetricPair]) -> Table:
    left, right = names
    columns = ("", f"lowest: {left}", right, f"last: {left}", right, "difference", "at step", "since step")
    rows: list[tuple[Cell, ...]] = []
    for pair in pairs:
        step, mine, theirs = pair.shared[-1]
        parting = pair.parting or 0
        rows.append(
            (pair.name, *(f"{short(value)} at {at:,}" for at, value in pair.best),
             *(short(value) for _, value in pair.last), _signed(theirs - mine), step, pair.shared[parting][0])
        )  # fmt: skip
    return Table(columns=columns, rows=tuple(rows), whole=True)


def _values(names: tuple[str, str], pair: MetricPair) -> Table:
    rows = tuple(
        (step, short(mine), short(theirs), _signed(theirs - mine))
        for step, mine, theirs in evenly(pair.shared, MOST_STEPS)
    )
    return Table(title=pair.name, columns=("step", *names, "difference"), rows=rows)


def _signed(difference: float) -> str:
    return f"+{short(difference)}" if difference > 0 else short(difference)


def _charts(names: tuple[str, str], one: RunHistory, other: RunHistory) -> Iterator[Chart]:
    last = last_step(one, other)
    for pair in shared_metrics(one, other):
        if pair.name == "loss" or pair.parting is not None:
            yield _overlay(names, pair.name, one.curves[pair.name], other.curves[pair.name], last)
    speeds = [images_per_second(run.curves) for run in (one, other)]
    if all(speeds):
        yield _overlay(names, "pictures a second", speeds[0], speeds[1], last)


def _overlay(names: tuple[str, str], title: str, mine: Points, theirs: Points, last: float) -> Chart:
    kind = "dots" if title.startswith(VALIDATION) else "smooth"
    curves = [
        Curve(name=name, points=points, kind=kind, tone=tone)  # type: ignore[arg-type]  # one of the two
        for tone, (name, points) in enumerate(zip(names, (mine, theirs), strict=True))
    ]
    return line_chart(title, curves, last=last, wide=title == "loss", from_zero=title.startswith(RATE))
