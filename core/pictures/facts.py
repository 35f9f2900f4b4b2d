"""What a scan knew of the files of an item, and whether they are the same when they are read."""

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple

from .files import CONTENT_BYTES, Contents

STAMP_BYTES = 8


class FileFacts(NamedTuple):
    """Of an item's picture and, where that is a file of its own, its mask."""

    length: int = 0
    """In bytes, of both together; 0 where no scan has looked at them."""
    stamp: int = 0
    """A digest of their sizes and times of change."""
    content: bytes = b""
    """A digest of their bytes, CONTENT_BYTES long; empty where it was not computed."""


def facts_of(files: Sequence[tuple[int, int]], digests: Sequence[bytes]) -> FileFacts:
    """Of each file its (size in bytes, time of change in nanoseconds), and the digest of its bytes or nothing."""
    return FileFacts(sum(size for size, _ in files), stamp_of(files), content_of(digests))


def has_changed(known: FileFacts, files: Sequence[Contents]) -> bool:
    """Whether files as they were read are others than those known.

    A file that was only touched is the same. Where no digest is known, one of the same size counts as the same.
    """
    if not known.length or known.stamp == stamp_of((len(file.data), file.mtime_ns) for file in files):
        return False
    if known.length != sum(len(file.data) for file in files):
        return True
    return bool(known.content) and known.content != content_of([digest_of(file.data) for file in files])


def digest_of(data: bytes) -> bytes:
    """BLAKE2b (RFC 7693) of a file's bytes."""
    return blake2b(data, digest_size=CONTENT_BYTES).digest()


def content_of(digests: Sequence[bytes]) -> bytes:
    """One digest for all files of an item; empty where that of one is not known."""
    if not all(digests):
        return b""
    return digests[0] if len(digests) == 1 else digest_of(b"".join(digests))


def stamp_of(files: Iterable[tuple[int, int]]) -> int:
    """A digest of (size, time of change) of each file, as a number of 64 bits."""
    text = " ".join(f"{size} {mtime_ns}" for size, mtime_ns in files)
    return int.from_bytes(blake2b(text.encode(), digest_size=STAMP_BYTES).digest(), "little")
