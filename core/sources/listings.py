"""One look at a directory: its pictures and folders in order, and what lies beside each picture."""

import os
import stat
from dataclasses import dataclass, field

from ..pictures.images import EXTENSIONS
from .caption_files import FOLDER_FILES, SIDECARS
from .layers import Unusable

METADATA = ("metadata.csv", "metadata.jsonl")
"""Lists of pictures that apply to their folder and all below, the more specific last."""
MASK_ENDINGS = (".mask.png", "-masklabel.png")
"""What a mask has in place of its picture's extension; of two the first is taken."""
_RANK = {ending: rank for rank, ending in enumerate(SIDECARS)}
_KINDS = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
          stat.S_IFDIR: "a folder", stat.S_IFLNK: "a link that leads nowhere"}  # fmt: skip


@dataclass(slots=True)
class Listing:
    """The names in a directory, by what they are for. Names that begin with a dot are among `pictures` only."""

    pictures: set[str] = field(default_factory=set)
    """Regular files with the extension of a picture; masks too."""
    folders: set[str] = field(default_factory=set)
    links: set[str] = field(default_factory=set)
    """Those of the folders that are symbolic links."""
    sidecars: dict[str, list[str]] = field(default_factory=dict)
    """By stem, the most specific last."""
    named: set[str] = field(default_factory=set)
    """Files whose name alone says what they are for: FOLDER_FILES and METADATA."""
    odd: dict[str, str] = field(default_factory=dict)
    """What must not be opened though it is named like a file that is read: the reason by name."""
    masks: dict[str, str] = field(default_factory=dict)
    """By the stem of the picture."""
    lone_masks: set[str] = field(default_factory=set)
    """Pictures that are named like the mask of one that is not there."""

    def in_order(self) -> list[str]:
        """What to walk through: names of pictures, of odd things and, with a slash behind, of folders.

        This order of names within each folder is the order of whole relative paths.
        """
        pictures = [name for name in self.pictures if name[0] != "."]
        odd = [name for name in self.odd if name[0] != "." and not _is_sidecar(name)]
        return sorted([*pictures, *odd, *(f"{name}/" for name in self.folders)])

    def refuse_odd(self, name: str) -> None:
        """Raises Unusable for a name that must not be opened."""
        if name in self.odd:
            raise Unusable(self.odd[name])


def list_folder(path: str, fence: str = "") -> Listing:
    """Of links, those alone are followed that stay within the folder `fence`, which has no links; empty: all are.

    Raises OSError when it cannot be listed, and ValueError for a path that no file can have.
    """
    listing = Listing()
    with os.scandir(path) as entries:
        for entry in entries:
            _sort_in(entry, listing, fence)
    for names in listing.sidecars.values():
        if len(names) > 1:
            names.sort(key=lambda name: (_RANK[_ending(name)], name))
    _match_masks(listing)
    return listing


def is_mask(name: str) -> bool:
    """Whether a picture is named like a mask.

    >>> is_mask("a.mask.png"), is_mask("a-masklabel.PNG"), is_mask("mask.png")
    (True, True, False)
    """
    return name.lower().endswith(MASK_ENDINGS)


def is_within(path: str, folder: str) -> bool:
    """Whether a path without links is the folder or lies below it.

    >>> is_within("/data/set/a", "/data/set"), is_within("/data/set", "/data/set"), is_within("/data/sets", "/data/set")
    (True, True, False)
    """
    return f"{path.rstrip(os.sep)}{os.sep}".startswith(f"{folder.rstrip(os.sep)}{os.sep}")


def _sort_in(entry: os.DirEntry[str], listing: Listing, fence: str) -> None:
    name = entry.name
    is_file, is_folder = _is_file_or_folder(entry)
    stem, _, last = name.rpartition(".")
    ending = f".{last.lower()}" if stem else ""
    if (is_file or is_folder) and fence and entry.is_symlink() and _is_looked_at(name, ending, is_folder=is_folder):
        target = os.path.realpath(entry.path)
        if not is_within(target, fence) and not (is_folder and is_within(fence, target)):
            listing.odd[name] = _leads_out(target)
            is_file = is_folder = False
    if is_folder:
        if name[0] != ".":
            listing.folders.add(name)
            listing.links.update([name] if entry.is_symlink() else [])
    elif ending in EXTENSIONS and is_file:
        listing.pictures.add(name)
    elif name[0] == ".":
        return
    elif name in FOLDER_FILES or name in METADATA:
        listing.named.add(name)
        if not is_file:
            listing.odd.setdefault(name, _what(entry))
    elif ending in _RANK:
        listing.sidecars.setdefault(stem, []).append(name)
        if not is_file:
            listing.odd.setdefault(name, _what(entry))
    elif not is_file and (ending in EXTENSIONS or entry.is_symlink()):
        listing.odd.setdefault(name, _what(entry))


def _is_looked_at(name: str, ending: str, *, is_folder: bool) -> bool:
    """Whether something of this name is walked or read."""
    if is_folder:
        return name[0] != "."
    return ending in EXTENSIONS or name in FOLDER_FILES or name in METADATA or ending in _RANK


def _leads_out(target: str) -> str:
    remedy = "put what it leads to in its place, or set data.follow_links = true"
    return f"is a link to {target}, outside the folder of the data set; {remedy}"


def _match_masks(listing: Listing) -> None:
    masks = sorted(name for name in listing.pictures if is_mask(name))
    if not masks:
        return
    stems = {name.rpartition(".")[0] for name in listing.pictures}
    for ending in reversed(MASK_ENDINGS):
        for name in masks:
            if name.lower().endswith(ending):
                stem = name[: -len(ending)]
                listing.masks[stem] = name
                listing.lone_masks.update([] if stem in stems else [name])


def _is_file_or_folder(entry: os.DirEntry[str]) -> tuple[bool, bool]:
    """Links followed; one that leads in a circle is neither."""
    try:
        return entry.is_file(), entry.is_dir()
    except OSError:
        return False, False


def _what(entry: os.DirEntry[str]) -> str:
    try:
        mode = entry.stat().st_mode
    except OSError:
        mode = stat.S_IFLNK
    return f"is {_KINDS.get(stat.S_IFMT(mode), 'a special file')}, not a file"


def _ending(name: str) -> str:
    return f".{name.rpartition('.')[2].lower()}"


def _is_sidecar(name: str) -> bool:
    return _ending(name) in _RANK or name in FOLDER_FILES or name in METADATA
