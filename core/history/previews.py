"""The previews of runs side by side: a prompt in each row, and steps, or runs, in the columns."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from PIL import Image

from ..pages.document import Strip, Thumbnail
from ..pages.thumbnails import thumbnail
from .facts import Picture, Round
from .reading import RunHistory, round_folder

MOST_ROUNDS, MOST_PROMPTS = 6, 12
SIDES = (256, 160, 96)
"""Longer sides of the pictures in pixels; the first with which they fit into the page is taken."""
MOST_BYTES = 2_500_000
"""Of all pictures of a page as text."""
Column = tuple[str, RunHistory, Round]
"""(its heading, whose it is, what it shows)."""
Kind = TypeVar("Kind")


def evolution(history: RunHistory) -> Strip:
    """Rounds evenly chosen, from the first to the last, with the prompts of the last."""
    rounds = evenly(history.rounds, MOST_ROUNDS)
    return strip([(f"{'step ' if not number else ''}{one.step:,}", history, one) for number, one in enumerate(rounds)])


def side_by_side(one: RunHistory, other: RunHistory) -> Strip:
    """Rounds of the steps that two runs have in common, evenly chosen, those of a step beside each other."""
    theirs = {its.step: its for its in other.rounds}
    shared = evenly([(its, theirs[its.step]) for its in one.rounds if its.step in theirs], MOST_ROUNDS // 2)
    columns: list[Column] = []
    for left, right in shared:
        columns += [(f"{one.name}, step {left.step:,}", one, left), (f"{other.name}, step {left.step:,}", other, right)]
    return strip(columns)


def strip(columns: Sequence[Column]) -> Strip:
    """With the prompts of the last column; a picture that a column has not, or that cannot be read, is left out."""
    shown = columns[-1][2].pictures[:MOST_PROMPTS] if columns else ()
    rows = tuple((_label(one, shown), tuple(_place(column, one) for column in columns)) for one in shown)
    fitting: tuple[tuple[str, tuple[Thumbnail | None, ...]], ...] = ()
    for side in SIDES:
        fitting = tuple(
            (label, tuple(_thumbnail(path, label, side) for path in places)) for label, places in rows
        )  # fmt: skip
        if sum(len(one.source) for _, pictures in fitting for one in pictures if one) <= MOST_BYTES:
            break
    return Strip(columns=tuple(heading for heading, _, _ in columns), rows=fitting)


def evenly(values: Sequence[Kind], most: int) -> list[Kind]:
    """At most so many, the first and the last among them.

    >>> evenly(range(11), 3)
    [0, 5, 10]
    """
    if len(values) <= most:
        return list(values)
    return [values[round(number * (len(values) - 1) / (most - 1))] for number in range(most)]


def _place(column: Column, wanted: Picture) -> Path | None:
    """The file of the picture that a column has for a prompt."""
    _, history, its = column
    for one in its.pictures:
        if _key(one) == _key(wanted):
            return round_folder(history.folder, its.step) / Path(one.file).name
    return None


def _thumbnail(path: Path | None, title: str, side: int) -> Thumbnail | None:
    if path is None:
        return None
    try:
        with Image.open(path) as image:
            return thumbnail(image, title, side)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # what Pillow raises for bad bytes
        return None


def _key(one: Picture) -> tuple[object, ...]:
    return one.text, one.negative, one.seed, one.width, one.height, one.guidance, one.scheduler


def _label(one: Picture, shown: Sequence[Picture]) -> str:
    """The prompt, and what tells it from another of the same words."""
    scales = {other.guidance for other in shown if other.text == one.text}
    beside = [one.note] if one.note else []
    beside += [f"guidance {one.guidance:g}"] if len(scales) > 1 else []
    return " ".join([one.text or "no words", *([f"({', '.join(beside)})"] if beside else [])])
