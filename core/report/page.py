"""A page that is one file: no scripts, no network, light or dark as the reader's system is."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from .document import Bars, Block, Cell, Facts, Gallery, Listing, Section, Table, Thumbnail, number
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
        return joined(*_titled(block.title), _bars(block))
    if isinstance(block, Listing):
        return _listing(block)
    return _gallery(block)


def _table(table: Table) -> Markup:
    heads = [element("th", name, class_=_kind_of(table, place)) for place, name in enumerate(table.columns)]
    rows = [element("tr", *map(_cell, row)) for row in table.rows]
    body = element("table", element("thead", element("tr", *heads)), element("tbody", *rows))
    return element("div", body, class_="scroll")


def _kind_of(table: Table, place: int) -> str:
    return "number" if any(isinstance(row[place], int | float) for row in table.rows) else "text"


def _cell(cell: Cell) -> Markup:
    if isinstance(cell, str):
        return element("td", cell, dir="auto")
    return element("td", number(cell), class_="number" if cell else "number none")


def _bars(bars: Bars) -> Markup:
    most = max((count for _, count in bars.rows), default=0) or 1
    rows = [
        element(
            "div",
            element("span", label),
            element("span", element("i", style=f"width:{100 * count / most:.1f}%"), class_="bar"),
            element("span", number(count), class_="number"),
        )
        for label, count in bars.rows
    ]
    return element("div", *rows, class_="bars")


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
