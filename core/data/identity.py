"""What the data were when a checkpoint was taken, as digests, and how those of now differ.

The order of a run's samples follows from its items, so a run cannot go on as it was when some are gone, new or others.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy
import torch
from torch import Tensor

from .table import ItemTable

DIGEST_BYTES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """How many items came, went and became others, with the id of one that came and of one that became another."""

    added: int = 0
    removed: int = 0
    changed: int = 0
    added_example: str = ""
    changed_example: str = ""

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    def sentence(self) -> str:
        """
        >>> Changes(added=3, removed=1, added_example="set/new.png").sentence()
        '3 pictures were added (such as set/new.png), 1 was removed'
        """
        counts = (
            (self.added, "added", self.added_example), (self.removed, "removed", ""),
            (self.changed, "changed", self.changed_example),
        )  # fmt: skip
        parts: list[str] = []
        for count, what, example in counts:
            if count:
                noun = "" if parts else " picture" if count == 1 else " pictures"
                such = f" (such as {example})" if example else ""
                parts.append(f"{count}{noun} {'was' if count == 1 else 'were'} {what}{such}")
        return ", ".join(parts) or "no picture was added, removed or changed"


def identity(items: ItemTable) -> dict[str, Tensor]:
    """Three tensors (N, 8) uint8 in the order of the first: digests of ids, of what is trained, and of files.

    `contents` is of caption, settings, size in pixels, length of the files in bytes, `files` of their bytes; all zeros
    where the scan did not compute that. Folders may be moved, files touched and captions kept in other files.
    """
    names = _bytes_of(numpy.asarray(items.names).astype("<u8"))
    contents, files = _contents(items), numpy.ascontiguousarray(items.content_bytes[:, :DIGEST_BYTES])
    order = numpy.argsort(_numbers(names), kind="stable")
    return {
        name: torch.from_numpy(numpy.ascontiguousarray(part[order]))
        for name, part in (("names", names), ("contents", contents), ("files", files))
    }


def changes(stored: Mapping[str, Tensor], items: ItemTable) -> Changes:
    """How the items differ from those of which `identity` was stored; files count where both sides know their bytes."""
    before = {name: _numbers(tensor.numpy()) for name, tensor in stored.items()}
    now = {name: _numbers(tensor.numpy()) for name, tensor in identity(items).items()}
    removed = int((~numpy.isin(before["names"], now["names"])).sum())
    added = now["names"][~numpy.isin(now["names"], before["names"])]
    _, there, here = numpy.intersect1d(before["names"], now["names"], assume_unique=True, return_indices=True)
    files = before["files"][there], now["files"][here]
    others = before["contents"][there] != now["contents"][here]
    others |= (files[0] != files[1]) & (files[0] != 0) & (files[1] != 0)
    changed = now["names"][here][others]
    return Changes(
        added=len(added), removed=removed, changed=len(changed), added_example=_example(added, items),
        changed_example=_example(changed, items),
    )  # fmt: skip


def _contents(items: ItemTable) -> Any:
    """(N, 8) uint8."""
    digests = bytearray()
    numbers = items.numbers
    width = numbers.dtype.itemsize
    facts = memoryview(numbers.tobytes())
    for index in range(len(items)):
        digest = blake2b(items.words(index), digest_size=DIGEST_BYTES)
        digest.update(facts[index * width : (index + 1) * width])
        digests += digest.digest()
    return numpy.frombuffer(bytes(digests), dtype=numpy.uint8).reshape(-1, DIGEST_BYTES)


def _bytes_of(numbers: Any) -> Any:
    return numpy.ascontiguousarray(numbers).view(numpy.uint8).reshape(-1, DIGEST_BYTES)


def _numbers(digests: Any) -> Any:
    """(N, 8) uint8 -> (N,) uint64, to be compared by."""
    return numpy.ascontiguousarray(digests).view("<u8").reshape(-1)


def _example(names: Any, items: ItemTable) -> str:
    """The id of the first item of the table that is among these."""
    if not len(names):
        return ""
    return items[int(numpy.flatnonzero(numpy.isin(numpy.asarray(items.names), names))[0])].id
