"""The places of pictures: those below a folder, or those that a manifest lists, in the order of their relative paths."""

import os
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from ..pictures.images import EXTENSIONS
from .folders import Folder, FolderReader
from .found import Problem
from .keys import shown
from .layers import Unusable
from .listings import is_mask, is_within
from .manifests import Row, Table


class Place(NamedTuple):
    """A picture's file, which is there and regular."""

    folder: Folder
    name: str
    rows: tuple[tuple[Table, Row], ...] = ()
    """What lists say about it, the most specific last."""

    @property
    def relative(self) -> str:
        return f"{self.folder.relative}{self.name}"

    @property
    def path(self) -> Path:
        return Path(f"{self.folder.path}/{self.name}")


CIRCLE = "is a link to a folder that it lies in, which would lead in a circle; it is not followed"


def places_below(root: Path, reader: FolderReader, *, with_masks: bool) -> Iterator[Place | Problem]:
    """Everything below a folder; names that begin with a dot are skipped.

    A folder is entered once, so links that lead in a circle, upwards, or to what is walked anyway are not followed; of
    those, the first two are problems. Links out of the root are, unless data.follow_links says otherwise.
    `with_masks` says whether pictures may have masks beside them; else what looks like one is a problem.
    """
    doors = _Doors(str(root))
    stack: list[tuple[Folder, Iterator[str]]] = []

    def enter(path: str, relative: str, *, is_link: bool) -> Iterator[Problem]:
        try:
            if is_link and doors.is_circle(path):
                yield Problem(path=Path(path), reason=CIRCLE)
            elif doors.enter(path, is_link=is_link):
                folder = reader.open(path, relative, stack[-1][0] if stack else None)
                stack.append((folder, iter(folder.listing.in_order())))
                yield from _problems_of(folder.own_tables)
        except (OSError, ValueError) as error:
            yield Problem(path=Path(path), reason=f"cannot be listed: {_told(error)}")

    yield from enter(str(root), "", is_link=False)
    while stack:
        folder, names = stack[-1]
        name = next(names, None)
        if name is None:
            stack.pop()
            yield from _unmatched(folder)
        elif name.endswith("/"):
            is_link = name[:-1] in folder.listing.links
            yield from enter(f"{folder.path}/{name[:-1]}", f"{folder.relative}{name}", is_link=is_link)
        else:
            yield from _visit(folder, name, with_masks=with_masks)


def listed_places(manifest: Path, reader: FolderReader) -> Iterator[Place | Problem]:
    """The pictures of a list, also those that lie elsewhere. What its own folder's files say holds for those below."""
    top = os.path.dirname(manifest)
    try:
        table = reader.read_table(str(manifest))
    except Unusable as error:
        reader.set_broken(str(manifest), str(error))
        return

    @lru_cache(maxsize=64)
    def opened(relative: str) -> Folder:
        path, is_elsewhere = os.path.normpath(os.path.join(top, relative)), relative.startswith("../")
        parent = None if not relative or is_elsewhere else opened(_parent(relative))
        if parent is not None and parent.fence and not is_within(os.path.realpath(path), parent.fence):
            raise ValueError(
                "it lies behind a link out of the list's folder; set data.follow_links = true to follow it"
            )
        return reader.open(path, relative, parent, metadata=False)

    yield from _problems_of((table,))
    rows: dict[str, Row] = {}
    for listed, row in table.rows.items():
        place = _with_extension(listed, opened)
        if rows.setdefault(place, row) is not row:
            yield Problem(path=manifest, reason=f"{table.unit} {row.number} names {shown(place)} again")
    for place in sorted(rows):
        yield _listed(place, rows[place], table, opened)


def _visit(folder: Folder, name: str, *, with_masks: bool) -> Iterator[Place | Problem]:
    path = f"{folder.path}/{name}"
    rows = tuple(
        (table, row)
        for length, table in folder.tables
        if (row := table.rows.pop(f"{folder.relative}{name}"[length:], None))
    )
    if name in folder.listing.odd:
        yield Problem(path=Path(path), reason=folder.listing.odd[name])
    elif not (folder.listing.masks and is_mask(name)):
        yield Place(folder, name, rows)
    elif with_masks:
        if name in folder.listing.lone_masks:
            yield Problem(path=Path(path), reason="is a mask, but the picture it belongs to is not beside it")
    elif name in folder.listing.lone_masks:
        yield Place(folder, name, rows)
    else:
        yield Problem(
            path=Path(path),
            reason='looks like the mask of the picture beside it; set data.masks = "sidecar" or rename it',
        )


def _problems_of(tables: tuple[Table, ...]) -> Iterator[Problem]:
    for table in tables:
        yield from (Problem(path=Path(table.path), reason=reason) for reason in table.problems)


def _unmatched(folder: Folder) -> Iterator[Problem]:
    """Rows of metadata that no picture has taken."""
    for table in folder.own_tables:
        for place, row in table.rows.items():
            reason = (
                f"{table.unit} {row.number} names {shown(place)}, and there is no such picture in or below this folder"
            )
            yield Problem(path=Path(table.path), reason=reason)


def _listed(place: str, row: Row, table: Table, opened: Callable[[str], Folder]) -> Place | Problem:
    name = place.rpartition("/")[2]
    why = "there is no such file"
    try:
        folder = opened(_parent(place))
        if name in folder.listing.pictures:
            return Place(folder, name, ((table, row),))
        if name in folder.listing.odd or name in folder.listing.folders:
            why = f"it {folder.listing.odd.get(name, 'is a folder, not a file')}"
        elif not name.lower().endswith(tuple(EXTENSIONS)):
            why = "it has no picture's extension, nor is it the stem of just one picture"
    except (OSError, ValueError) as error:
        why = f"its folder cannot be listed: {_told(error)}"
    path = Path(os.path.normpath(os.path.join(os.path.dirname(table.path), place)))
    return Problem(path=path, reason=f"{table.unit} {row.number} of {table.name} names it, but {why}")


def _with_extension(place: str, opened: Callable[[str], Folder]) -> str:
    """kohya's scripts list pictures by their stems, beside the pictures."""
    if place.lower().endswith(tuple(EXTENSIONS)):
        return place
    try:
        pictures = opened(_parent(place)).listing.pictures
    except (OSError, ValueError):
        return place
    name = place.rpartition("/")[2]
    endings = [ending for one in sorted(EXTENSIONS) for ending in (one, one.upper()) if f"{name}{ending}" in pictures]
    return f"{place}{endings[0]}" if len(endings) == 1 else place


def _told(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or str(error)


def _parent(place: str) -> str:
    """The folder of a relative path, with a slash behind; empty for the root."""
    folder, slash, _ = place.rstrip("/").rpartition("/")
    return folder + slash


class _Doors:
    """Which directories have been entered."""

    def __init__(self, root: str) -> None:
        self._root = os.path.realpath(root)
        self._entered: set[tuple[int, int]] = set()

    def enter(self, path: str, *, is_link: bool) -> bool:
        """Whether this is the first time, by whatever path. Raises OSError."""
        if is_link and self._is_walked_anyway(os.path.realpath(path)):
            return False
        status = os.stat(path)
        identity = (status.st_dev, status.st_ino)
        is_new = identity not in self._entered
        self._entered.add(identity)
        return is_new

    def is_circle(self, path: str) -> bool:
        """Whether a link leads to a folder around it, or around the root. Raises OSError."""
        target = os.path.realpath(path)
        return is_within(self._root, target) or is_within(os.path.realpath(os.path.dirname(path)), target)

    def _is_walked_anyway(self, target: str) -> bool:
        """By its own name, which is the one that counts."""
        inside = target.removeprefix(f"{self._root}/")
        return inside != target and not any(part.startswith(".") for part in inside.split("/"))
