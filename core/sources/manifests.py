"""Lists of pictures with captions and settings: manifests, and the metadata files of Hugging Face's image folders."""

import csv
import io
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .caption_files import decode, parse_json
from .keys import intended, layer_of, shown
from .layers import Layer, Unusable

MANIFESTS = (".json", ".jsonl", ".csv")
"""Endings of the files that data.root may name."""
IMAGE_KEYS = ("image", "file_name", "path", "image_path")
"""Names of the picture's path; the first that is there counts."""
MAX_TOLD = 5
"""Broken lines of one file that are told."""


@dataclass(frozen=True, slots=True)
class Row:
    """One picture of a list."""

    number: int
    """Its line or entry, counted from 1."""
    layer: Layer
    wrong: str
    """Why its caption or settings cannot be used, where that is so."""


@dataclass(slots=True)
class Table:
    """A list, read to its end."""

    path: str
    unit: Literal["line", "entry"]
    """What the numbers of its rows count."""
    rows: dict[str, Row] = field(default_factory=dict)
    """By the picture's path from the list's folder, without detours."""
    problems: list[str] = field(default_factory=list)
    """What of it is left out, and keys that look misspelt."""

    @property
    def name(self) -> str:
        return os.path.basename(self.path)


def read_table(path: str, ignore: Collection[str] = ()) -> Table:
    """All rows of a .json, .jsonl or .csv file. Raises Unusable when it is not one to its end."""
    table = Table(path=path, unit="entry" if path.lower().endswith(".json") else "line")
    folder = os.path.dirname(os.path.abspath(path))
    misspelt: dict[str, str] = {}
    for number, image, values in _entries(path):
        where = f"{table.unit} {number}"
        if not isinstance(values, Mapping):
            table.problems.append(f"{where} is {shown(values)}; it must be an object of keys and values")
            continue
        image = next((values[key] for key in IMAGE_KEYS if values.get(key)), None) if image is None else image
        if not isinstance(image, str) or "\0" in image:
            found = "no picture" if image is None else shown(image)
            table.problems.append(f"{where} names {found}; its path is wanted as one of {', '.join(IMAGE_KEYS)}")
            continue
        place = _from_folder(image, folder)
        if place in table.rows:
            table.problems.append(
                f"{where} names {shown(place)}, as {table.unit} {table.rows[place].number} did before"
            )
            continue
        table.rows[place] = _row(number, values, table.name, ignore)
        misspelt.update({key: hint for key in values if isinstance(key, str) and (hint := intended(key, words=False))})
    for key, hint in misspelt.items():
        table.problems.append(f"{key!r} is not a key that is read; did you mean {hint!r}?")
    return table


def _row(number: int, values: Mapping[Any, Any], source: str, ignore: Collection[str]) -> Row:
    try:
        return Row(number, layer_of(source, values, ignore), "")
    except Unusable as error:
        return Row(number, Layer(), str(error))


def _from_folder(image: str, folder: str) -> str:
    """The path from the list's folder, with slashes and without detours."""
    whole = os.path.normpath(os.path.join(folder, image))
    inside = whole.startswith(folder + os.sep)
    return (whole[len(folder) + 1 :] if inside else os.path.relpath(whole, folder)).replace(os.sep, "/")


def _entries(path: str) -> Iterator[tuple[int, str | None, Any]]:
    """Number, the picture's path where it is a key of its own, and the values."""
    try:
        with open(path, "rb") as file:
            if path.lower().endswith(".jsonl"):
                yield from _of_lines(file)
                return
            text = decode(file.read())
    except OSError as error:
        raise Unusable(f"cannot be read: {error.strerror or error}") from None
    yield from _of_csv(text) if path.lower().endswith(".csv") else _of_json(text)


def _of_lines(lines: Iterable[bytes]) -> Iterator[tuple[int, None, Any]]:
    broken: list[str] = []
    for number, line in enumerate(lines, start=1):
        try:
            text = decode(line).strip()
            if text:
                yield number, None, parse_json(text, one_line=True)
        except Unusable as error:
            broken.append(f"line {number} {error}")
    if broken:
        further = len(broken) - MAX_TOLD
        more = f"; and {further} further lines" if further > 0 else ""
        raise Unusable("; ".join(broken[:MAX_TOLD]) + more)


def _of_json(text: str) -> Iterator[tuple[int, str | None, Any]]:
    tree = parse_json(text)
    if isinstance(tree, Mapping):
        yield from ((number, image, values) for number, (image, values) in enumerate(tree.items(), start=1))
    elif isinstance(tree, list):
        yield from ((number, None, values) for number, values in enumerate(tree, start=1))
    else:
        raise Unusable(
            f"holds {shown(tree)}; it must be a list of objects, or an object of them by the pictures' paths"
        )


def _of_csv(text: str) -> Iterator[tuple[int, None, Any]]:
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    try:
        columns = rows.fieldnames or ()
        if not set(columns) & set(IMAGE_KEYS):
            raise Unusable(
                f"has no column {', '.join(IMAGE_KEYS)}; its first line is {shown(text.partition(chr(10))[0].strip())}"
            )
        for row in rows:
            if None in row:
                raise Unusable(f"line {rows.line_num} has more cells than the first line has names")
            yield rows.line_num, None, row
    except csv.Error as error:
        raise Unusable(f"is not CSV: {error} in line {rows.reader.line_num}") from None
