"""What a report is made of, whether it ends on the terminal or as a page."""

from dataclasses import dataclass

Cell = str | int | float
"""Numbers are set at the right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A few values that are read at a glance."""

    rows: tuple[tuple[str, str], ...]
    """(what, how much)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """A histogram."""

    title: str
    rows: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Lines under one heading, such as the files that share a problem."""

    title: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Thumbnail:
    """A small picture; only pages show it."""

    source: str
    """A data URI."""
    width: int
    height: int
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Gallery:
    title: str
    pictures: tuple[Thumbnail, ...]


Block = str | Facts | Table | Bars | Listing | Gallery
"""A string is a sentence or two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    title: str
    blocks: tuple[Block, ...]


def number(value: Cell) -> str:
    """As it is written in a report.

    >>> number(12345), number(2.5), number(2.0), number("a")
    ('12,345', '2.5', '2', 'a')
    """
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}".rstrip("0").rstrip(".")


def counted(count: int, one: str, many: str = "") -> str:
    """
    >>> counted(1, "batch", "batches"), counted(1200, "picture")
    ('1 batch', '1,200 pictures')
    """
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def on_one_line(text: str, most: int = 0) -> str:
    """Line ends shown as signs and control characters, which could steer a terminal, by their numbers; cut at `most`.

    >>> on_one_line("a" + chr(10) + "b" + chr(27) + "[0m")
    'a ⏎ b\\\\x1b[0m'
    """
    text = text.replace("\r\n", "\n").replace("\n", " ⏎ ").replace("\t", " ")
    text = "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
    return f"{text[:most]}…" if most and len(text) > most else text
