"""What a run of the benchmarks leaves: a table a section, and one JSON file."""

import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.figures import Figure, Section

LIBRARIES = ("torch", "diffusers", "transformers", "accelerate", "blinker", "numpy", "Pillow")
COLOURS = {"met": "green", "missed": "bold red", "within the noise": "yellow", "": ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a section has said."""

    section: Section
    seconds: float
    figures: tuple[Figure, ...]
    error: str = ""
    """The last line of what went wrong; then there are no figures."""

    @property
    def is_good(self) -> bool:
        """Whether it came to its end and no goal is missed by more than the noise."""
        return not self.error and all(figure.verdict != "missed" for figure in self.figures)


def tables_of(result: Result, *, is_judged: bool) -> Iterator[str | Table]:
    """Headings and tables of a section's figures, those of lines in tables of their own."""
    single = [figure for figure in result.figures if figure.point is None]
    if single:
        yield f"[bold]{result.section.name}: {result.section.question}"
        yield _table_of(single, is_judged=is_judged)
    for along, unit in kinds_of_lines(result.figures):
        yield f"[bold]{result.section.name}: {unit} by number of {along}"
        yield _table_of_lines(lines_of(result.figures, along, unit))


def kinds_of_lines(figures: Sequence[Figure]) -> list[tuple[str, str]]:
    """(what grows, unit) of the lines among the figures."""
    return list(dict.fromkeys((one.point.along, one.unit) for one in figures if one.point is not None))


def lines_of(figures: Sequence[Figure], along: str, unit: str) -> dict[str, dict[float, Figure]]:
    """By name of the line and place on it."""
    lines: dict[str, dict[float, Figure]] = {}
    for figure in figures:
        if figure.point is not None and (figure.point.along, figure.unit) == (along, unit):
            lines.setdefault(figure.point.line, {})[figure.point.at] = figure
    return lines


def _table_of(figures: Sequence[Figure], *, is_judged: bool) -> Table:
    """A row a figure; without verdicts where the sizes were too small to tell."""
    table = Table()
    table.add_column("")
    for column in ("median", "quartiles", "unit", "goal", *(("",) if is_judged else ())):
        table.add_column(column, justify="left" if column in ("unit", "") else "right", no_wrap=True)
    for figure in figures:
        spread = "" if figure.low is None or figure.high is None else f"{shown(figure.low)} to {shown(figure.high)}"
        verdict = (f"[{COLOURS[figure.verdict]}]{figure.verdict}" if figure.verdict else "",) if is_judged else ()
        table.add_row(figure.name, shown(figure.value), spread, figure.unit, goal_of(figure), *verdict)
    return table


def _table_of_lines(lines: Mapping[str, Mapping[float, Figure]]) -> Table:
    """A row a line and a column a place, medians only."""
    table = Table()
    table.add_column("")
    places = sorted({place for line in lines.values() for place in line})
    for place in places:
        table.add_column(f"{place:,.0f}", justify="right", no_wrap=True)
    for name, line in lines.items():
        table.add_row(name, *(shown(line[place].value) if place in line else "" for place in places))
    return table


def goal_of(figure: Figure) -> str:
    """In words; empty where there is none."""
    if figure.at_most is not None:
        return f"<= {shown(figure.at_most)}"
    return f">= {shown(figure.at_least)}" if figure.at_least is not None else ""


def shown(value: float) -> str:
    """Four digits or so.

    >>> [shown(value) for value in (0.0123, 1.0149, 74.31, 186.2, 15394.4)]
    ['0.012', '1.015', '74.3', '186', '15,394']
    """
    for least, decimals in ((100, 0), (10, 1)):
        if abs(value) >= least:
            return f"{value:,.{decimals}f}"
    return f"{value:.3f}"


def write_json(path: Path, machine: dict[str, Any], results: Sequence[Result], *, rounds: int, is_quick: bool) -> None:
    """Everything that is known of a run, for whoever compares two of them."""
    sections = {
        result.section.name: {
            "question": result.section.question, "seconds": round(result.seconds, 1), "error": result.error,
            "figures": [asdict(figure) | {"verdict": figure.verdict} for figure in result.figures],
        }
        for result in results
    }  # fmt: skip
    whole = {"machine": machine, "rounds": rounds, "quick": is_quick, "sections": sections}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


def machine() -> dict[str, Any]:
    """What figures depend on: the processor, what else it did at the start, and the versions."""
    import torch

    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "load": [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "",
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: version_of(name) for name in LIBRARIES},
    }


def cpu_model() -> str:
    """As the system names it."""
    known = Path("/proc/cpuinfo")
    lines = known.read_text(encoding="utf-8").splitlines() if known.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def version_of(name: str) -> str:
    """Empty for what is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
