"""What is in the data folders: every readable picture as an Item, every other file by name and reason."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from events.payloads import Item

from ..errors import DataError
from .captions import CaptionSource, caption_of
from .images import EXTENSIONS, upright_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    items: tuple[Item, ...]
    problems: tuple[str, ...]


def scan(roots: Sequence[Path], captions: CaptionSource, max_bad_fraction: float) -> Scan:
    """Read the headers of all pictures below the roots, in the order of their ids.

    Raises DataError when a root holds no picture, or when more than `max_bad_fraction` of the files are unreadable.
    """
    found: list[tuple[str, Path]] = []
    for name, root in zip(names_of(roots), roots, strict=True):
        pictures = [(f"{name}/{path.relative_to(root).as_posix()}", path) for path in pictures_below(root)]
        if not pictures:
            raise DataError(f"data.root: no picture in {root}; looked for {' '.join(sorted(EXTENSIONS))}")
        found += pictures
    with ThreadPoolExecutor(max_workers=8) as pool:
        results = list(pool.map(lambda entry: _read(entry[0], entry[1], captions), found))
    items = tuple(result for result in results if isinstance(result, Item))
    problems = tuple(result for result in results if isinstance(result, str))
    if not items or len(problems) > max_bad_fraction * len(found):
        listed = "\n  ".join(problems[:20])
        raise DataError(
            f"{len(problems)} of {len(found)} files cannot be used, more than data.max_bad_fraction = {max_bad_fraction}"
            f" allows:\n  {listed}"
        )
    return Scan(items=items, problems=problems)


def pictures_below(root: Path) -> Iterator[Path]:
    """Picture files by name, sorted by relative path, names beginning with a dot skipped."""
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(folder, name)
            if path.suffix.lower() in EXTENSIONS and not name.startswith("."):
                yield path


def names_of(roots: Sequence[Path]) -> list[str]:
    """The data sets' names: each root's last part, numbered where two share it."""
    names: list[str] = []
    for root in roots:
        name = root.resolve().name or "root"
        same = sum(other == name or other.startswith(f"{name}#") for other in names)
        names.append(f"{name}#{same + 1}" if same else name)
    return names


def _read(item_id: str, path: Path, captions: CaptionSource) -> Item | str:
    try:
        width, height = upright_size(path)
        return Item(id=item_id, path=path, caption=caption_of(path, captions), width=width, height=height)
    except Exception as error:  # Pillow raises many kinds for bad bytes; each is told with the file's name
        return f"{path}: {type(error).__name__}: {error}"
