"""A page that is one file: no scripts, no network, light or dark as the reader's system is."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from .document import (
    Bars,
    Block,
    Cell,
    Chart,
    Charts,
    Facts,
    Gallery,
    Listing,
    Section,
    Shares,
    Strip,
    Table,
    Thumbnail,
    Verbatim,
    number,
)
from .markup import Markup, element, joined
from .output import written
from .style import STYLE

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
LONG_LISTING = 12
"""Longer ones are folded up."""


def write_page(path: Path, title: str, subtitle: str, parts: Iterable[Markup]) -> None:
    """Write the parts as they are made, so that a page of many pictures is never held."""
    with written(path) as file:
        file.writelines(_page(title, subtitle, parts))


def section_markup(section: Section) -> Markup:
    """A section with its heading."""
    return element("section", element("h2", section.title), *map(_block, section.blocks))


def picture(shown: Thumbnail, *, width: int, height: int, sharp: bool) -> Markup:
    """An img of this size in CSS pixels; where it is enlarged, `sharp` keeps its pixels visible."""
    kind = "sharp" if sharp and width > shown.width else "soft"
    return element(
        "img", src=shown.source, alt=shown.title, title=shown.title, width=str(width), height=str(height), class_=kind
    )


def _page(title: str, subtitle: str, parts: Iterable[Markup]) -> Iterator[str]:
    yield "<!doctype html>\n" + '<html lang="en">\n<head>\n'
    yield element("meta", charset="utf-8") + "\n"
    yield element("meta", name="viewport", content="width=device-width, initial-scale=1") + "\n"
    yield element("meta", **{"http-equiv": "Content-Security-Policy"}, content=POLICY) + "\n"
    yield element("title", title) + f"\n<style>{STYLE}</style>\n</head>\n<body>\n"
    yield element("header", element("h1", title), element("p", subtitle)) + "\n<main>\n"
    for part in parts:
        yield part + "\n"
    yield "</main>\n</body>\n</html>\n"


def _block(block: Block) -> Markup:
    if isinstance(block, str):
        return element("p", block)
    if isinstance(block, Facts):
        return element("dl", *(element("div", element("dt", name), element("dd", value)) for name, value in block.rows))
    if isinstance(block, Table):
        return joined(*_titled(block.title), _table(block))
    if isinstance(block, Bars):
        rows = [(label, count, number(count)) for label, count in block.rows]
        return joined(*_titled(block.title), _bars(rows, "bars"))
    if isinstance(block, Shares):
        return joined(*_titled(block.title), _bars(block.rows, "bars shares"))
    if isinstance(block, Listing):
        return _listing(block)
    if isinstance(block, Charts):
        return element("div", *map(_chart, block.charts), class_="charts")
    if isinstance(block, Strip):
        return _strip(block)
    if isinstance(block, Verbatim):
        text = element("pre", block.text, dir="auto")
        return element("details", element("summary", block.title), text) if block.title else text
    return _gallery(block)


def _table(table: Table) -> Markup:
    heads = [element("th", name, class_=_kind_of(table, place)) for place, name in enumerate(table.columns)]
    rows = [element("tr", *map(_cell, row)) for row in table.rows]
    body = element("table", element("thead", element("tr", *heads)), element("tbody", *rows))
    return element("div", body, class_="scroll whole" if table.whole else "scroll")


def _kind_of(table: Table, place: int) -> str:
    return "number" if any(isinstance(row[place], int | float) for row in table.rows) else "text"


def _cell(cell: Cell) -> Markup:
    if isinstance(cell, str):
        return element("td", cell, dir="auto")
    return element("td", number(cell), class_="number" if cell else "number none")


def _bars(rows: Sequence[tuple[str, float, str]], kind: str) -> Markup:
    """Of each row (what, how much, the same in words)."""
    most = max((length for _, length, _ in rows), default=0) or 1
    shown = [
        element(
            "div",
            element("span", label),
            element("span", element("i", style=f"width:{100 * length / most:.1f}%"), class_="bar"),
            element("span", words, class_="number"),
        )
        for label, length, words in rows
    ]
    return element("div", *shown, class_=kind)


def _chart(chart: Chart) -> Markup:
    keys = [element("span", element("i", class_=tone), name, class_="key") for tone, name in chart.keys]
    head = [element("b", chart.title), *keys, *([element("span", chart.note, class_="note")] if chart.note else [])]
    return element("figure", element("figcaption", *head), chart.plot, class_="chart wide" if chart.wide else "chart")


def _strip(strip: Strip) -> Markup:
    cells = [element("div", heading, class_="head") for heading in strip.columns]
    for label, pictures in strip.rows:
        cells.append(element("div", label, class_="row", dir="auto"))
        cells += [element("div", *([_tile(shown)] if shown else [])) for shown in pictures]
    return element("div", *cells, class_="strip", style=f"--columns:{len(strip.columns)}")


def _listing(listing: Listing) -> Markup:
    lines = element("ul", *(element("li", line, dir="auto") for line in listing.lines), class_="lines")
    if len(listing.lines) <= LONG_LISTING:
        return joined(*_titled(listing.title), lines)
    return element("details", element("summary", listing.title), lines)


def _gallery(gallery: Gallery) -> Markup:
    return joined(
        *_titled(gallery.title), element("div", *(_tile(shown) for shown in gallery.pictures), class_="gallery")
    )


def _tile(shown: Thumbnail) -> Markup:
    factor = max(1, 64 // max(shown.width, shown.height))
    return picture(shown, width=shown.width * factor, height=shown.height * factor, sharp=True)


def _titled(title: str) -> list[Markup]:
    return [element("h3", title)] if title else []
