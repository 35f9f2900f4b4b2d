"""A directory of a data set with what its files say: about its own pictures, and about those in folders below."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from events.payloads import ItemSettings, Mask

from ..config.tables import DataTable
from .caption_files import FOLDER_FILES, GLOBAL, LOCAL, TEXTS, read_folder_file, read_sidecar
from .layers import Layer, Unusable, merge, settings_of, without_words
from .listings import METADATA, Listing, list_folder
from .manifests import Table, read_table

REPEATED = re.compile(r"([0-9]{1,4})_(.*)", re.DOTALL)
"""The folder names of kohya's scripts: repeats, then the caption of pictures that have none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A directory, listed once, with its folder-level files read."""

    path: str
    relative: str
    """To the root, with a slash behind; empty for the root."""
    listing: Listing
    layer: Layer
    """What applies to its own pictures, of all folder-level files here and above."""
    settings: ItemSettings
    """Those of `layer`."""
    inherited: tuple[Layer, ...]
    """What applies to folders below too, the most specific last."""
    repeats: Layer
    """Of the nearest folder named by its repeats; the least specific of all layers."""
    default_caption: str | None
    """Likewise."""
    tables: tuple[tuple[int, Table], ...]
    """Metadata here and above, the most specific last, each with the length of its folder's `relative`."""
    own_tables: tuple[Table, ...]
    """Those that lie here."""
    fence: str
    """The folder that links must not leave, by its path without links; empty where they may."""


class FolderReader:
    """Opens folders, and remembers the folder-level files that the user has to mend."""

    def __init__(self, data: DataTable) -> None:
        self._data = data
        self._ignore = frozenset(data.ignore_settings)
        self._broken: dict[str, str] = {}

    @property
    def is_stopped(self) -> bool:
        """Whether some file is broken, so that only further ones are looked for."""
        return bool(self._broken)

    @property
    def broken(self) -> tuple[str, ...]:
        """Each file with its reason."""
        return tuple(f"{path}: {reason}" for path, reason in self._broken.items())

    def set_broken(self, path: str, reason: str) -> None:
        self._broken.setdefault(path, reason)

    def open(self, path: str, relative: str, parent: Folder | None, *, metadata: bool = True) -> Folder:
        """List a directory below `parent`, or a root. Raises OSError or ValueError when it cannot be listed."""
        fence = "" if self._data.follow_links else parent.fence if parent else os.path.realpath(path)
        listing = list_folder(path, fence)
        found = self._folder_layers(path, listing)
        inherited = (*(parent.inherited if parent else ()), *([found[GLOBAL]] if GLOBAL in found else []))
        own = [found[name] for name in sorted(found, key=lambda name: (name == LOCAL, name)) if name != GLOBAL]
        name = os.path.basename(os.path.abspath(path))
        repeats, default = (parent.repeats, parent.default_caption) if parent else (Layer(), None)
        kohya = REPEATED.fullmatch(name) if self._data.layout == "kohya" else None
        if kohya:
            counts = {} if "multiply" in self._ignore else {"multiply": float(kohya[1])}
            repeats, default = Layer(settings=counts), kohya[2].strip()
        layer = self.total((repeats, *inherited, *own))
        tables = self._metadata(path, listing) if metadata else ()
        return Folder(
            path=path, relative=relative, listing=listing, layer=layer,
            settings=settings_of(layer), inherited=inherited, repeats=repeats, default_caption=default,
            tables=(*(parent.tables if parent else ()), *((len(relative), table) for table in tables)), own_tables=tables,
            fence=fence,
        )  # fmt: skip

    def read_table(self, path: str) -> Table:
        """A manifest or metadata file. Raises Unusable when it cannot be read to its end."""
        return read_table(path, self._ignore)

    def total(self, layers: Iterable[Layer]) -> Layer:
        """What they say together, without what data.captions leaves out."""
        merged = merge(layers)
        return without_words(merged) if self._data.captions == "filename" else merged

    def sidecars_of(self, folder: Folder, stem: str) -> list[Layer]:
        """What the files beside a picture say, the most specific last. Raises Unusable naming each that is wrong."""
        layers: list[Layer] = []
        wrong: list[str] = []
        for name in folder.listing.sidecars.get(stem, ()):
            ending = f".{name.rpartition('.')[2].lower()}"
            if ending in TEXTS and self._data.captions == "filename":
                continue
            try:
                folder.listing.refuse_odd(name)
                layers.append(read_sidecar(f"{folder.path}/{name}", ending, self._ignore))
            except Unusable as error:
                wrong.append(f"{name}: {error}")
        if wrong:
            raise Unusable("; ".join(wrong))
        return layers

    def mask_of(self, folder: Folder, stem: str) -> Mask:
        """Where the mask of a picture comes from."""
        if self._data.masks != "sidecar":
            return "alpha" if self._data.masks == "alpha" else ""
        name = folder.listing.masks.get(stem)
        return Path(f"{folder.path}/{name}") if name else ""

    def _folder_layers(self, path: str, listing: Listing) -> Mapping[str, Layer]:
        layers: dict[str, Layer] = {}
        for name in sorted(listing.named & FOLDER_FILES):
            with self._told(f"{path}/{name}"):
                listing.refuse_odd(name)
                layers[name] = read_folder_file(f"{path}/{name}", name, self._ignore)
        return layers

    def _metadata(self, path: str, listing: Listing) -> tuple[Table, ...]:
        tables: list[Table] = []
        for name in METADATA:
            if name in listing.named:
                with self._told(f"{path}/{name}"):
                    listing.refuse_odd(name)
                    tables.append(self.read_table(f"{path}/{name}"))
        return tuple(tables)

    @contextmanager
    def _told(self, path: str) -> Iterator[None]:
        """What is wrong with a file that many pictures depend on is told once, for all such files together."""
        try:
            yield
        except Unusable as error:
            self.set_broken(path, str(error))
