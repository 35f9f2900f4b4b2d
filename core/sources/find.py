"""The pictures of data sets, each with its caption, mask and settings, before any picture has been opened."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..config.tables import DataTable
from ..errors import DataError
from ..pictures.images import EXTENSIONS
from .folders import Folder, FolderReader
from .found import Found, Problem
from .layers import Unusable, caption_of, settings_of
from .manifests import MANIFESTS
from .places import Place, listed_places, places_below

MAX_TOLD = 20
"""Broken files that one error names."""


def find(
    data: DataTable, roots: Sequence[Path] | None = None, names: Sequence[str] | None = None
) -> Iterator[Found | Problem]:
    """Every picture of the roots, in the order of its relative path, and what is set aside with the reason.

    `roots` are folders or manifests, those of `data` unless given, and `names` their data sets' names. Nothing is held
    but the folders on the way to the picture at hand and, for a manifest or metadata, its rows.
    Raises DataError, when everything has been looked at, naming each root without a picture and each file that many
    pictures depend on and that cannot be read.
    """
    roots = data.roots if roots is None else roots
    reader = FolderReader(data)
    for name, root in zip(names_of(roots) if names is None else names, roots, strict=True):
        yield from _of_root(name, root, data, reader)
    if reader.is_stopped:
        broken = reader.broken
        more = f"\n  and {len(broken) - MAX_TOLD} more" if len(broken) > MAX_TOLD else ""
        raise DataError("the data cannot be used:\n  " + "\n  ".join(broken[:MAX_TOLD]) + more)


def names_of(roots: Sequence[Path]) -> list[str]:
    """The data sets' names: each root's last part, numbered where two share it.

    >>> names_of([Path("/x/set"), Path("/y/set"), Path("/set#2")])
    ['set', 'set#2', 'set#2#2']
    """
    names: list[str] = []
    for root in roots:
        name = unique = root.resolve().name or "root"
        number = 1
        while unique in names:
            number += 1
            unique = f"{name}#{number}"
        names.append(unique)
    return names


def _of_root(name: str, root: Path, data: DataTable, reader: FolderReader) -> Iterator[Found | Problem]:
    places: Iterator[Place | Problem] = iter(())
    if os.path.isdir(root):
        places = places_below(root, reader, with_masks=data.masks == "sidecar")
    elif os.path.isfile(root) and root.suffix.lower() in MANIFESTS:
        places = listed_places(root, reader)
    else:
        what = "is neither a folder nor a .json, .jsonl or .csv file" if os.path.lexists(root) else "is not there"
        reader.set_broken(str(root), f"{what}; data.root names it")
    is_empty = True
    for place in places:
        is_empty = False
        if isinstance(place, Problem):
            yield place
        elif not reader.is_stopped:
            yield _found(place, name, data, reader)
    if is_empty and not reader.is_stopped:
        reader.set_broken(str(root), f"holds no picture; looked for {' '.join(sorted(EXTENSIONS))}")


def _found(place: Place, name: str, data: DataTable, reader: FolderReader) -> Found | Problem:
    folder, file = place.folder, place.name
    stem = file.rpartition(".")[0]
    wrong = [f"{table.name}, {table.unit} {row.number}: {row.wrong}" for table, row in place.rows if row.wrong]
    try:
        layers = reader.sidecars_of(folder, stem)
        layer = reader.total((folder.layer, *layers, *(row.layer for _, row in place.rows)))
        caption, source = caption_of(layer, data.caption_lines), layer.source
    except Unusable as error:
        wrong.insert(0, str(error))
    if wrong:
        return Problem(path=place.path, reason="; ".join(wrong))
    if not layer.has_words:
        caption, source = _caption_of_name(folder, stem, data)
    is_folders = layer.settings is folder.layer.settings and layer.tags is folder.layer.tags
    return Found(
        id=f"{name}/{place.relative}", path=place.path, caption=caption, caption_from=source,
        mask=reader.mask_of(folder, stem), settings=folder.settings if is_folders else settings_of(layer),
    )  # fmt: skip


def _caption_of_name(folder: Folder, stem: str, data: DataTable) -> tuple[str, str]:
    """The caption of a picture that no file captions, and what gave it."""
    if folder.default_caption is not None and data.captions != "filename":
        return _readable(folder.default_caption), "folder name"
    return _readable(stem.partition("_")[0].strip()), "file name"


def _readable(name: str) -> str:
    """A file name as one line; where its bytes are not UTF-8 it has a replacement character for each of them."""
    return os.fsencode(name).decode("utf-8", "replace").replace("\r", " ").replace("\n", " ")
