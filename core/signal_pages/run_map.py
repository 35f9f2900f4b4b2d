"""The map at the head of the catalogue, line by line: in which part of a run a signal fires, and what fires around it."""

import re
from collections.abc import Iterator

from events import catalogue

BEFORE, EPOCH, LOADER, AFTER = SECTIONS = (
    "Before the first epoch",
    "In each epoch",
    "In the loader, meanwhile",
    "After the last step",
)
INDENT = 4
NEIGHBOURS = 3
"""Lines of an excerpt before and behind the one that is looked for."""
HERE = "   <- here"


def map_lines() -> list[str]:
    """The map's lines, the outermost without indentation; those of the loader come last, as a block of their own."""
    text = str(catalogue.__doc__).partition("Map:\n")[2]
    drawn, _, said = text.partition("\n\n")
    order = re.search(r"for each sample: (.+?);\s+for each batch: ([\w.]+)\.", said.replace("\n", " "))
    if order is None:
        raise LookupError("the map in events/catalogue.py no longer says what fires in the loader")
    samples = [f"    {name}" for name in order[1].split(", ")]
    lines = [line.removeprefix(" " * INDENT) for line in drawn.splitlines()]
    return [*lines, "for each sample, in the loader:", *samples, "for each batch, in the loader:", f"    {order[2]}"]


def places_of(name: str) -> list[int]:
    """Numbers of the map's lines that a signal has, the one within an epoch first. Raises LookupError when there is none."""
    lines = map_lines()
    found = [number for number, line in enumerate(lines) if re.fullmatch(rf"\s*{re.escape(name)}[?*+]?", line)]
    if not found:
        raise LookupError(f"{name} is not in the map of events/catalogue.py")
    return sorted(found, key=lambda number: (_section_at(lines, number) != EPOCH, number))


def section_of(name: str) -> str:
    """The part of a run that a signal belongs to, one of SECTIONS."""
    return _section_at(map_lines(), places_of(name)[0])


def excerpt(name: str) -> Iterator[str]:
    """The lines around a signal's first place, with the lines that say how often their blocks repeat."""
    lines, place = map_lines(), places_of(name)[0]
    near = [number for number in range(place - NEIGHBOURS, place + NEIGHBOURS + 1) if 0 <= number < len(lines)]
    near = [number for number in near if _is_loader(lines, number) == _is_loader(lines, place)]
    shown = sorted({above for number in near for above in (number, *_heads_of(lines, number))})
    last = -1
    for number in shown:
        if number > last + 1:
            yield f"{' ' * _depth(lines[number])}..."
        yield lines[number] + HERE * (number == place)
        last = number
    if last + 1 < len(lines):
        yield "..."


def _section_at(lines: list[str], number: int) -> str:
    if _is_loader(lines, number):
        return LOADER
    epochs = lines.index("for each epoch:")
    end = next(after for after in range(epochs + 1, len(lines)) if not _depth(lines[after]))
    return BEFORE if number < epochs else EPOCH if number < end else AFTER


def _is_loader(lines: list[str], number: int) -> bool:
    return number >= next(place for place, line in enumerate(lines) if line.endswith("in the loader:"))


def _heads_of(lines: list[str], number: int) -> Iterator[int]:
    """The lines that open the blocks which a line stands in."""
    depth = _depth(lines[number])
    for above in range(number - 1, -1, -1):
        if _depth(lines[above]) < depth:
            depth = _depth(lines[above])
            yield above


def _depth(line: str) -> int:
    """In spaces."""
    return len(line) - len(line.lstrip())
