"""Sizes of picture files, and which files cannot be used: from the cache, or read by many threads."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

from PIL import ImageFile

from .facts import digest_of
from .files import open_picture, read_contents, reason_of, stat_regular, strict_warnings
from .header_cache import Check, Entry, Header, HeaderCache
from .orientation import upright_size

__all__ = ["Check", "Examined", "Header", "HeaderCache", "examine_files", "read_headers"]

log = logging.getLogger("signalbox.data.scan")

AHEAD = 512
"""Files that are looked at together; their results wait for each other."""
STATS_AT_ONCE = 64
TRANSPARENT_MODES = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
MOST_THREADS = 32
T = TypeVar("T")
R = TypeVar("R")


class Examined(NamedTuple):
    """A file that has been looked at."""

    result: Header | str
    """Its header, or as a sentence the reason why it cannot be used."""
    status: tuple[int, int] = (0, 0)
    """Its size in bytes and time of change in nanoseconds."""


def read_headers(
    paths: Iterable[Path], *, check: Check, hashes: bool, cache: HeaderCache, threads: int = 0
) -> Iterator[Header | str]:
    """As `examine_files`, the results alone."""
    for examined in examine_files(paths, check=check, hashes=hashes, cache=cache, threads=threads):
        yield examined.result


def examine_files(
    paths: Iterable[Path], *, check: Check, hashes: bool, cache: HeaderCache, threads: int = 0
) -> Iterator[Examined]:
    """For each file in order its header, or the reason why it cannot be used.

    "decode" also decodes each file once, so that damage behind the header is found, and hashes it, as `hashes` does.
    Only what the cache does not know is opened, by as many threads as `threads` says; 0: four more than CPUs. Files
    that change while they are read, and those the system refuses to read, are looked at anew the next time.
    """
    threads = threads or min(MOST_THREADS, (os.cpu_count() or 1) + 4)
    animated, remaining = 0, iter(paths)
    with ThreadPoolExecutor(threads) as pool:
        while some := list(islice(remaining, AHEAD)):
            for examined in _read(some, check, hashes, cache, pool):
                animated += isinstance(examined.result, Header) and examined.result.frames > 1
                yield examined
    if animated:
        log.warning("%d animated files: only the first frame of each is used", animated)


def header_of(path: Path, *, check: Check, hashes: bool) -> Header:
    """Read one file's header. Raises files.Refused, and whatever the system or Pillow find wrong with it."""
    if not hashes and check == "headers":
        stat_regular(path)
        with path.open("rb") as file:
            return _header(file, b"")
    data = read_contents(path).data
    header = _header(BytesIO(data), digest_of(data))
    if check == "decode":
        with open_picture(BytesIO(data)) as image:
            image.draft(None, (1, 1))  # a JPEG at an eighth of its size: the file is read to its end all the same
            image.load()
    return header


def _read(
    paths: Sequence[Path], check: Check, hashes: bool, cache: HeaderCache, pool: ThreadPoolExecutor
) -> list[Examined]:
    """Some files' results, in order; when it returns, no thread is at work."""
    entries = _side_by_side(pool, _entry, paths, STATS_AT_ONCE)
    known = cache.lookup_many((entry for entry in entries if not isinstance(entry, str)), check=check, hashes=hashes)
    results = [entry if isinstance(entry, str) else next(known) for entry in entries]
    unknown = [
        entry for entry, result in zip(entries, results, strict=True) if result is None and not isinstance(entry, str)
    ]
    if not unknown:
        return [_examined(entry, result) for entry, result in zip(entries, results, strict=True) if result is not None]
    with strict_warnings():
        read = _side_by_side(pool, lambda entry: _examine(entry, check, hashes), unknown, 1)
    cache.remember_many(
        ((entry, result) for entry, (result, lasts) in zip(unknown, read, strict=True) if lasts), check=check
    )
    fresh = iter(read)
    whole = [next(fresh)[0] if result is None else result for result in results]
    return [_examined(entry, result) for entry, result in zip(entries, whole, strict=True)]


def _examined(entry: Entry | str, result: Header | str) -> Examined:
    return Examined(result) if isinstance(entry, str) else Examined(result, entry[1:])


def _side_by_side(pool: ThreadPoolExecutor, work: Callable[[T], R], on: Sequence[T], at_once: int) -> list[R]:
    """What the work gives for each, in order, `at_once` of them by one thread; without threads where one is enough."""
    if len(on) <= at_once:
        return [work(one) for one in on]
    parts = (on[start : start + at_once] for start in range(0, len(on), at_once))
    return list(chain.from_iterable(pool.map(lambda part: [work(one) for one in part], parts)))


def _entry(path: Path) -> Entry | str:
    """What the file is known by in the cache, or the reason why it is not to be opened."""
    try:
        status = stat_regular(path)
    except (OSError, ValueError) as error:  # ValueError: refused, or a name that no file can have
        return reason_of(error)
    return path, status.st_size, status.st_mtime_ns


def _examine(entry: Entry, check: Check, hashes: bool) -> tuple[Header | str, bool]:
    """A file's header or what is wrong with it, and whether that holds until the file changes."""
    try:
        result: Header | str = header_of(entry[0], check=check, hashes=hashes)
        lasts = True
    except Exception as error:  # Pillow raises many kinds for bad bytes, ValueError and SyntaxError among them
        result = reason_of(error)
        lasts = not isinstance(error, MemoryError) and getattr(error, "errno", None) is None
    return result, lasts and _entry(entry[0]) == entry


def _header(file: BinaryIO, content: bytes) -> Header:
    with open_picture(file) as image:
        width, height = upright_size(image)
        alpha = "transparency" in image.info or image.mode in TRANSPARENT_MODES
        return Header(width=width, height=height, content=content, alpha=alpha, frames=_frames(image))


def _frames(image: ImageFile.ImageFile) -> int:
    """1 for a still. The further pictures of a camera's MPO file are previews and other views, no frames."""
    if image.format == "MPO":
        return 1
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:  # what is wrong with later frames is no matter: the first one is used
        return 1
