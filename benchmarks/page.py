"""Figures on a page of the documentation: `python -m benchmarks.page benchmarks.json docs/performance.md`.

Between `<!-- NAME:begin -->` and `<!-- NAME:end -->` goes what the section NAME has measured, with the day and the machine;
everything else on the page stays. Several files of figures may be given, each of some sections. A picture of all goes to
`images/performance.png` beside the page.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, Point, Section
from benchmarks.output import Result, goal_of, kinds_of_lines, lines_of, shown

PICTURE = Path("images") / "performance.png"


def main(words: Sequence[str] | None = None) -> int:
    """Write the page. Raises ValueError where it has no place for a section."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__)
    parser.add_argument("figures", nargs="+", type=Path, help="what `python -m benchmarks --out` has written")
    parser.add_argument("page", type=Path)
    arguments = parser.parse_args(words)
    page, results = arguments.page.read_text(encoding="utf-8"), list[Result]()
    for path in arguments.figures:
        whole = json.loads(path.read_text(encoding="utf-8"))
        for name, section in whole["sections"].items():
            result = result_of(name, section)
            page = with_block(page, name, "\n".join(lines_on(result, whole["machine"], whole["rounds"])))
            results.append(result)
    arguments.page.write_text(page, encoding="utf-8")
    from benchmarks.plot import draw

    picture = arguments.page.parent / PICTURE
    picture.parent.mkdir(exist_ok=True)
    draw(results, picture, "")
    return 0


def result_of(name: str, section: Mapping[str, Any]) -> Result:
    """What was written of a section, as it was."""
    figures = []
    for entry in section["figures"]:
        values = {key: value for key, value in entry.items() if key != "verdict"}
        values["point"] = Point(**values["point"]) if values["point"] is not None else None
        figures.append(Figure(**values))
    return Result(
        section=Section(name=name, question=section["question"], measure=lambda _: []), seconds=section["seconds"],
        figures=tuple(figures), error=section["error"],
    )  # fmt: skip


def lines_on(result: Result, machine: Mapping[str, Any], rounds: int) -> Iterator[str]:
    """Markdown: when and where, a table of single figures, and one of each kind of lines."""
    yield (
        f"`python -m benchmarks {result.section.name} --rounds {rounds}`, {machine['date'][:10]}:"
        f" {machine['gpu'] or machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads of torch,"
        f" torch {machine['torch']}, diffusers {machine['diffusers']}, Python {machine['python']}."
    )
    single = [figure for figure in result.figures if figure.point is None]
    if single:
        yield "\n| | median | quartiles | unit | goal | |\n|---|---|---|---|---|---|"
    for figure in single:
        spread = "" if figure.low is None or figure.high is None else f"{shown(figure.low)} to {shown(figure.high)}"
        cells = (figure.name, shown(figure.value), spread, figure.unit, goal_of(figure), figure.verdict)
        yield f"| {' | '.join(cells)} |"
    for along, unit in kinds_of_lines(result.figures):
        lines = lines_of(result.figures, along, unit)
        places = sorted({place for line in lines.values() for place in line})
        yield f"\n| {unit} by number of {along} | {' | '.join(f'{place:,.0f}' for place in places)} |"
        yield "|---" * (len(places) + 1) + "|"
        for name, line in lines.items():
            yield f"| {name} | {' | '.join(shown(line[at].value) if at in line else '' for at in places)} |"


def with_block(page: str, name: str, block: str) -> str:
    """The page with this between the markers of a name. Raises ValueError where these are not there once each."""
    block_in(page, name)
    begin, end = markers(name)
    return f"{page.partition(begin)[0]}{begin}\n\n{block}\n\n{end}{page.partition(end)[2]}"


def block_in(page: str, name: str) -> str:
    """What is between the markers. Raises ValueError where these are not there once each, in order."""
    begin, end = markers(name)
    if page.count(begin) != 1 or page.count(end) != 1 or page.index(begin) > page.index(end):
        raise ValueError(f"the page needs a line {begin} and after it a line {end}, once each")
    return page.partition(begin)[2].partition(end)[0]


def markers(name: str) -> tuple[str, str]:
    return f"<!-- {name}:begin -->", f"<!-- {name}:end -->"


if __name__ == "__main__":
    sys.exit(main())
