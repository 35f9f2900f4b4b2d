"""The items of a run as a compact table: arrays and one text, written once and mapped by every loader worker.

An `Item` is made when it is asked for. A record takes 68 bytes and its text about as much as caption and file name, so
that neither a million objects nor a copy in each worker is held.
"""

import json
import mmap
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from hashlib import blake2b
from pathlib import Path
from typing import Any, cast, overload

import numpy

from events.payloads import PLAIN, Item, ItemSettings, Mask
from events.randomness import derive

from ..errors import DataError
from ..pictures.facts import FileFacts
from ..pictures.files import CONTENT_BYTES

RECORD = numpy.dtype(
    [
        ("end", "u8"), ("name", "u8"), ("multiply", "f8"), ("width", "u4"), ("height", "u4"), ("group", "i4"),
        ("fixed", "i4"), ("bytes", "u4"), ("stamp", "u8"), ("content", "u1", (CONTENT_BYTES,)),
    ]
)  # fmt: skip
"""`end` is that of the item's text; `name` a digest of its id; `group` the number of its batch_id, or -1;
`fixed` whether it must not be enlarged, or -1; the last three are FileFacts."""
NUMBERS = numpy.dtype([("multiply", "<f8"), ("width", "<u4"), ("height", "<u4"), ("bytes", "<u4")])
BESIDE = "./"
"""Before the name of a mask in its picture's folder; no path as text begins so."""
SETTINGS = tuple(field.name for field in fields(ItemSettings))


class ItemTable(Sequence[Item]):
    """Items in order. Arrays of what a plan needs are at hand; everything else is read item by item."""

    def __init__(self, records: Any, text: Any, folders: list[list[str]], place: Path | None = None) -> None:
        self._records, self._text, self._folders, self._place = records, text, folders, place

    @staticmethod
    def of(items: Iterable[Item], files: Iterable[FileFacts] | None = None) -> "ItemTable":
        """In memory, from any stream of items and what is known of their files.

        Raises DataError for extras that are no plain values.
        """
        writer = _Writer()
        facts = iter(files) if files is not None else None
        for item in items:
            writer.add(item, next(facts) if facts is not None else FileFacts())
        return writer.table()

    @staticmethod
    def open(place: Path) -> "ItemTable":
        """Map what `store` wrote."""
        records = mapped(place / "records.npy")
        with open(place / "text", "rb") as file:
            text = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if len(records) else b""
        return ItemTable(records, text, json.loads((place / "folders.json").read_text(encoding="utf-8")), place)

    def store(self, place: Path) -> "ItemTable":
        """Write it to a folder and map it from there, as the workers will."""
        place.mkdir(parents=True, exist_ok=True)
        for name, write in (
            ("records.npy", lambda file: numpy.save(file, self._records)),
            ("text", lambda file: file.write(self._text)),
            ("folders.json", lambda file: file.write(json.dumps(self._folders).encode())),
        ):
            _replace(place / name, write)
        return ItemTable.open(place)

    def where(self, keep: Sequence[bool] | Any) -> "ItemTable":
        """The items for which `keep` is true, in the same order."""
        indices = numpy.flatnonzero(numpy.asarray(keep, dtype=bool))
        writer = _Writer()
        for index in indices:
            writer.add(self[int(index)], self.facts(int(index)))
        return writer.table()

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        return self._item(index % len(self))

    def __iter__(self) -> Iterator[Item]:
        return (self._item(index) for index in range(len(self)))

    def __getstate__(self) -> Any:
        if self._place is not None:
            return self._place
        return numpy.asarray(self._records), bytes(self._text), self._folders

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, Path):
            opened = ItemTable.open(state)
            state = (opened._records, opened._text, opened._folders, state)
        ItemTable.__init__(self, *state)

    @property
    def multiply(self) -> Any:
        """(N,) float64."""
        return self._records["multiply"]

    @property
    def shows(self) -> Any:
        """(N,) int64: how often at most an epoch shows each."""
        return numpy.maximum(1, numpy.ceil(self._records["multiply"])).astype(numpy.int64)

    @property
    def sizes(self) -> Any:
        """(N, 2) int64 of width and height in pixels, upright."""
        return numpy.stack([self._records["width"], self._records["height"]], axis=1).astype(numpy.int64)

    @property
    def groups(self) -> Any:
        """(N,) int32: the number of the batch_id, or -1."""
        return self._records["group"]

    @property
    def no_upscale(self) -> Any:
        """(N,) int32: 1 where the item must not be enlarged, 0 where it may be, -1 where it does not say."""
        return self._records["fixed"]

    @property
    def names(self) -> Any:
        """(N,) uint64: a digest of each id."""
        return self._records["name"]

    @property
    def contents(self) -> Any:
        """(N,) void of 16 bytes: the digest of each file's bytes; only where `hashed`."""
        return numpy.ascontiguousarray(self._records["content"]).view(f"V{CONTENT_BYTES}").reshape(-1)

    @property
    def content_bytes(self) -> Any:
        """(N, 16) uint8: the same; zeros where not `hashed`."""
        return self._records["content"]

    @property
    def numbers(self) -> Any:
        """(N,) of what is trained on and is a number: multiply, width, height, length of the files in bytes."""
        return self._records[["multiply", "width", "height", "bytes"]].astype(NUMBERS)

    @property
    def hashed(self) -> Any:
        """(N,) bool: whether the scan computed the digest."""
        return self._records["content"].any(axis=1)

    def content(self, index: int) -> bytes:
        """The digest of the file's bytes; empty where the scan did not compute it."""
        digest = self._records["content"][index].tobytes()
        return digest if any(digest) else b""

    def digest(self) -> str:
        """Of all items in their order: ids, captions, settings, sizes and lengths of files; not of their bytes."""
        found = blake2b(digest_size=16)
        for part in (self.names, self.numbers):
            found.update(numpy.ascontiguousarray(part).tobytes())
        found.update(self._text)
        return found.hexdigest()

    def facts(self, index: int) -> FileFacts:
        """What the scan knew of the item's files."""
        record = self._records[index]
        return FileFacts(int(record["bytes"]), int(record["stamp"]), self.content(index))

    def words(self, index: int) -> bytes:
        """Name, caption, mask, settings and extras of an item, as text; the same wherever the folder lies."""
        start = int(self._records["end"][index - 1]) if index else 0
        text: Any = self._text[start : int(self._records["end"][index])]
        return bytes(text).partition(b",")[2]

    def _item(self, index: int) -> Item:
        start = int(self._records["end"][index - 1]) if index else 0
        record = self._records[index]
        raw: Any = self._text[start : int(record["end"])]
        folder, name, caption, mask, settings, extras = json.loads(bytes(raw).decode("utf-8", "surrogatepass"))
        id_folder, path_folder, caption_from = self._folders[folder]
        if isinstance(name, list):
            item_id, path = name
        else:
            item_id, path = id_folder + name, f"{path_folder}/{name}"
        return Item(
            id=item_id, path=Path(path), caption=caption, caption_from=caption_from,
            mask=_mask_of(mask, path), width=int(record["width"]), height=int(record["height"]),
            settings=ItemSettings(multiply=float(record["multiply"]), **settings), extras=extras,
        )  # fmt: skip


class _Writer:
    """Grows the arrays item by item."""

    def __init__(self) -> None:
        self._text = bytearray()
        self._numbers: dict[str, array[Any]] = {
            name: array(code) for name, code in
            (("end", "Q"), ("name", "Q"), ("multiply", "d"), ("width", "L"), ("height", "L"), ("group", "l"), ("fixed", "l"),
             ("bytes", "L"), ("stamp", "Q"))
        }  # fmt: skip
        self._contents = bytearray()
        self._folders: dict[tuple[str, str, str], int] = {}
        self._groups: dict[str, int] = {}

    def add(self, item: Item, facts: FileFacts) -> None:
        try:
            self._text += json.dumps(self._row(item), ensure_ascii=False, separators=(",", ":")).encode(
                "utf-8", "surrogatepass"
            )
        except TypeError as error:
            raise DataError(f"{item.id}: its extras are no plain values of JSON: {error}") from None
        batch_id = item.settings.batch_id
        group = self._groups.setdefault(batch_id, len(self._groups)) if batch_id else -1
        for name, value in (
            ("end", len(self._text)), ("name", derive(item.id)), ("multiply", item.settings.multiply),
            ("width", item.width), ("height", item.height), ("group", group),
            ("fixed", -1 if item.settings.no_upscale is None else int(item.settings.no_upscale)),
            ("bytes", facts.length), ("stamp", facts.stamp),
        ):  # fmt: skip
            self._numbers[name].append(value)
        self._contents += facts.content.ljust(CONTENT_BYTES, b"\0")

    def table(self) -> ItemTable:
        records = numpy.zeros(len(self._numbers["end"]), dtype=RECORD)
        for name, values in self._numbers.items():
            records[name] = values
        records["content"] = numpy.frombuffer(bytes(self._contents), dtype=numpy.uint8).reshape(-1, CONTENT_BYTES)
        return ItemTable(records, bytes(self._text), [list(folder) for folder in self._folders])

    def _row(self, item: Item) -> list[Any]:
        """What is no number, with folder and source of the caption once for all pictures that share them."""
        name, path = item.path.name, str(item.path)
        usual = item.id.endswith(f"/{name}") and path.endswith(f"/{name}")
        folder = (item.id[: -len(name)], path[: -len(name) - 1]) if usual else ("", "")
        settings = {
            key: _plain(getattr(item.settings, key))
            for key in SETTINGS
            if key != "multiply" and getattr(item.settings, key) != getattr(PLAIN, key)
        }
        return [
            self._folders.setdefault((*folder, item.caption_from), len(self._folders)),
            name if usual else [item.id, path], item.caption, _mask_text(item), settings, dict(item.extras),
        ]  # fmt: skip


def mapped(path: Path) -> Any:
    """An array that lies in a file, read where it is asked for.

    As a plain array: numpy's class for mapped ones does work at each element that is taken.
    """
    return numpy.load(path, mmap_mode="r").view(numpy.ndarray)


def _mask_text(item: Item) -> str:
    """One beside its picture by its name alone, so that it reads the same wherever the folder lies."""
    if isinstance(item.mask, str):
        return item.mask
    return f"{BESIDE}{item.mask.name}" if item.mask.parent == item.path.parent else str(item.mask)


def _mask_of(text: str, path: str) -> Mask:
    if text in ("", "alpha"):
        return cast("Mask", text)
    return Path(path).parent / text.removeprefix(BESIDE) if text.startswith(BESIDE) else Path(text)


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


def _replace(path: Path, write: Callable[[Any], object]) -> None:
    """Write beside and rename, so that a process which maps the old file keeps it."""
    beside = path.with_name(f"{path.name}.new")
    with open(beside, "wb") as file:
        write(file)
    beside.replace(path)
