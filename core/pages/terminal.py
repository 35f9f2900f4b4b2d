"""A report on the terminal: with colour and lines there, plain text where it is piped on."""

from collections.abc import Iterable, Sequence
from io import StringIO
from typing import TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from .document import (
    Bars,
    Cell,
    Charts,
    Facts,
    Gallery,
    Listing,
    Section,
    Shares,
    Strip,
    Table,
    Verbatim,
    number,
    on_one_line,
)

Words = str | Facts | Table | Bars | Shares | Listing | Verbatim
"""What can be said without pictures."""
BAR = 40
"""Signs of the longest bar."""
FULL, SIMPLE = "█", "#"
"""The sign of bars, and its stand-in where the terminal has no such signs."""
PLAIN_WIDTH = 10_000
"""So that nothing is broken over lines where programs read it."""


def print_report(sections: Iterable[Section], file: TextIO | None = None) -> None:
    """Print them; to standard output unless another file is given."""
    console = Console(file=file, highlight=False, markup=False, emoji=False)
    if console.is_terminal:
        _print_sections(console, sections)
        return
    written = StringIO()
    _print_sections(Console(file=written, highlight=False, markup=False, emoji=False, width=PLAIN_WIDTH), sections)
    text = written.getvalue() if _is_unicode(console) else written.getvalue().replace(FULL, SIMPLE)
    for line in text.encode(console.encoding, "backslashreplace").decode(console.encoding).split("\n")[:-1]:
        print(line.rstrip(), file=console.file)


def _print_sections(console: Console, sections: Iterable[Section]) -> None:
    for section in sections:
        console.print()
        console.print(Text(_clean(section.title), style="bold"))
        for block in section.blocks:
            if not isinstance(block, Gallery | Strip | Charts):
                _print_block(console, block)


def _print_block(console: Console, block: Words) -> None:
    if isinstance(block, str):
        _print_text(console, block)
        return
    if not isinstance(block, Facts) and block.title:
        _print_text(console, block.title, style="italic")
    if isinstance(block, Listing | Verbatim):
        for line in block.lines if isinstance(block, Listing) else block.text.splitlines():
            _print_text(console, line, indent=4)
    elif isinstance(block, Facts):
        _print_rows(console, ("", ""), block.rows)
    elif isinstance(block, Table):
        _print_rows(console, block.columns, block.rows)
    elif isinstance(block, Bars):
        most = max((count for _, count in block.rows), default=0) or 1
        sign = FULL if _is_unicode(console) else SIMPLE
        rows = [(label, count, sign * max(count * BAR // most, min(count, 1))) for label, count in block.rows]
        _print_rows(console, ("", "", ""), rows)
    elif isinstance(block, Shares):
        _print_rows(console, ("", ""), [(label, words) for label, _, words in block.rows])


def _print_text(console: Console, text: str, *, style: str = "", indent: int = 2) -> None:
    console.print(Padding(Text(_clean(text), style=style), (0, 0, 0, indent), expand=False))


def _print_rows(console: Console, columns: Sequence[str], rows: Sequence[tuple[Cell, ...]]) -> None:
    table = RichTable(
        box=SIMPLE_HEAD if console.is_terminal and any(columns) else None, show_header=any(columns), pad_edge=True,
        header_style="dim", padding=(0, 2, 0, 0),
    )  # fmt: skip
    for place, name in enumerate(columns):
        is_number = any(isinstance(row[place], int | float) for row in rows)
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_clean(number(cell)) for cell in row))
    console.print(Padding(table, (0, 0, 0, 2), expand=False))


def _clean(text: str) -> str:
    """On one line, and without what the terminal cannot write."""
    return on_one_line(text).encode("utf-8", "backslashreplace").decode()


def _is_unicode(console: Console) -> bool:
    return console.encoding.lower().startswith("utf")
