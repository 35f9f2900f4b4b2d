"""Markdown that the pages are made of, line by line."""

import inspect
from collections.abc import Iterable, Iterator, Sequence


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The lines of a table."""
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def paragraphs(text: str) -> Iterator[str]:
    """A docstring's paragraphs, each on a line of its own with an empty one between."""
    for number, part in enumerate(inspect.cleandoc(text).split("\n\n")):
        yield from [""] * bool(number)
        yield in_line(part)


def in_line(text: str) -> str:
    return " ".join(text.split())


def in_cell(text: str) -> str:
    """Text on one line whose bars do not end a table's cell."""
    return in_line(text).replace("|", "\\|")


def page(lines: Iterable[str]) -> str:
    """The text of a file."""
    return "\n".join(lines).rstrip() + "\n"
