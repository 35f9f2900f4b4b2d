"""A picture file opened with care: regular files of known formats, no more bytes and pixels than pictures have."""

import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageFile, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "AVIF")
"""Given to Pillow with every file: left to itself it tries all it knows, and starts Ghostscript for an EPS."""
EXTENSIONS = frozenset({".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".avif"})
MODES = frozenset(
    {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"}
    | {"I", "F", "I;16", "I;16L", "I;16B", "I;16N"}
)
"""Pillow's colour modes that have a way to RGB."""
CONTENT_BYTES = 16
"""Of a BLAKE2b digest (RFC 7693) of a file's bytes."""
MAX_PIXELS = 64_000_000
"""More than any camera in common use takes; a small file can claim far more and fill the memory."""
MAX_BYTES = 1 << 30
"""MAX_PIXELS of four 32-bit channels."""


class Refused(ValueError):
    """A file that is not used; the message is a sentence about it, to follow its path."""


@dataclass(frozen=True, slots=True)
class Contents:
    """A file as it was read."""

    data: bytes
    mtime_ns: int


def stat_regular(path: Path) -> os.stat_result:
    """The file's status, links followed. Raises Refused for what is no regular file: opening a pipe can wait forever."""
    return _require_regular(os.stat(path))


def read_contents(path: Path) -> Contents:
    """The whole file. Raises as `stat_regular` and as opening a file does."""
    stat_regular(path)
    with open(path, "rb", opener=_without_waiting) as file:
        status = _require_regular(os.fstat(file.fileno()))  # another may have come to its place
        return Contents(file.read(), status.st_mtime_ns)


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _require_regular(status: os.stat_result) -> os.stat_result:
    if not stat.S_ISREG(status.st_mode):
        kinds = ((stat.S_ISDIR, "folder"), (stat.S_ISFIFO, "named pipe"), (stat.S_ISSOCK, "socket"))
        kind = next((name for test, name in kinds if test(status.st_mode)), "device")
        raise Refused(f"is a {kind}, not a file")
    if not status.st_size:
        raise Refused("is empty")
    if status.st_size > MAX_BYTES:
        raise Refused(f"has {status.st_size:,} bytes, more than the {MAX_BYTES:,} that are read")
    return status


def open_picture(file: BinaryIO) -> ImageFile.ImageFile:
    """The picture with its header read and its pixels not yet.

    Raises Refused for more than MAX_PIXELS and for colours that have no way to RGB, and whatever Pillow finds wrong.
    """
    try:
        image = Image.open(file, formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Refused(f"claims more than the {MAX_PIXELS:,} pixels that are read") from error
    if image.width * image.height > MAX_PIXELS:
        raise Refused(f"has {image.width} x {image.height} pixels, more than the {MAX_PIXELS:,} that are read")
    if image.mode not in MODES:
        raise Refused(f"has {image.mode} colours, which are not read; save it as RGB")
    return image


@contextmanager
def strict_warnings() -> Iterator[None]:
    """Inside, Pillow's warning of decompression bombs is an error, and its remarks on metadata are not shown.

    Warnings are a matter of the whole process: enter it in the main thread, and leave it when its threads are done.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def reason_of(error: Exception) -> str:
    """What is wrong with a file, as one line to follow its path, from whatever reading it raised."""
    if isinstance(error, Refused):
        return str(error)
    if isinstance(error, UnidentifiedImageError):
        return f"is damaged, or no picture of a format that is read ({' '.join(FORMATS)})"
    if isinstance(error, FileNotFoundError):
        return "does not exist"
    if isinstance(error, MemoryError):
        return "does not fit into memory"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}"
    text = " ".join(f"{error}".split()) or type(error).__name__
    return f"cannot be decoded: {text[:200]}".encode("utf-8", "backslashreplace").decode()
