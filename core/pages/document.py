"""What a report is made of, whether it ends on the terminal or as a page."""

from dataclasses import dataclass

from .markup import Markup

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
    whole: bool = False
    """Its cells are not broken over lines; on a page that is too narrow it is scrolled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """A histogram."""

    title: str
    rows: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """Parts of a whole, each with its length in words."""

    title: str
    rows: tuple[tuple[str, float, str], ...]
    """(what, how much, the same in words); the largest fills its row."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """Pictures in rows under common headings, such as those of a prompt step by step; only pages show it."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Thumbnail | None, ...]], ...]
    """(what a row shows, a picture or none for each column)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Curves; only pages show them."""

    title: str
    plot: Markup
    keys: tuple[tuple[str, str], ...] = ()
    """(class of its colour, what it is) of each curve, where there are several."""
    note: str = ""
    """What there is to read off it, such as the last value."""
    wide: bool = False
    """Has a row of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Charts:
    """Side by side, as many as there is room for."""

    charts: tuple[Chart, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verbatim:
    """A text as it is, its lines and spaces kept; under a title it is folded up."""

    text: str
    title: str = ""


Block = str | Facts | Table | Bars | Shares | Listing | Gallery | Strip | Charts | Verbatim
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
