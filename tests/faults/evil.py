"""Files that would do something when they are opened the wrong way: pickles that leave a marker, folders with code."""

import json
import os
import pickle
import shutil
import struct
import sys
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

from .bench import model_folder

EVENTS = ("compile", "exec", "import", "pickle.find_class", "socket.getaddrinfo", "socket.connect")
"""What Python says on the way to foreign code."""
ALWAYS = EVENTS[3:]


class Evil:
    """Its pickle makes a folder when it is read."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.marker),)


def evil_pickle(marker: Path, protocol: int = 2) -> bytes:
    return pickle.dumps({"weight": Evil(marker)}, protocol=protocol)


def evil_zip(marker: Path) -> bytes:
    """As torch.save writes, but for what it holds."""
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", evil_pickle(marker))
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return stream.getvalue()


def with_header(length: int, rest: bytes) -> bytes:
    """What begins as a safetensors file whose header has this length."""
    return struct.pack("<Q", length) + rest


def evil_files(marker: Path) -> dict[str, Callable[[], bytes]]:
    """By name: what is no safetensors, whatever it is called."""
    large = 99_000_000
    return {
        "pickle.safetensors": lambda: evil_pickle(marker),
        "upper.SAFETENSORS": lambda: evil_zip(marker),
        "old.ckpt": lambda: evil_zip(marker),
        "plain.pt": lambda: evil_pickle(marker, protocol=0),
        "huge.safetensors": lambda: with_header(1 << 63, b"{}" + b" " * 64),
        "large.safetensors": lambda: with_header(large, b'{"__metadata__":{}' + b" " * (large - 19) + b"}"),
    }


def model_with(folder: Path, files: dict[str, object]) -> Path:
    """A copy of the bench's model with these files more; tables are written as JSON over what is there, None removes it."""
    shutil.copytree(model_folder(), folder)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.unlink()
        elif isinstance(content, bytes):
            path.write_bytes(content)
        elif isinstance(content, str):
            path.write_text(content)
        else:
            there = json.loads(path.read_text()) if path.is_file() else {}
            path.write_text(json.dumps(there | dict(content)))  # type: ignore[call-overload]  # a table
    return folder


def watch_for_code(under: Path, found: Path) -> Callable[[], None]:
    """For a child: code of files under a folder, classes that a pickle asks for and connections are noted in the file `found`."""

    def begin() -> None:
        descriptor = os.open(found, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            if event not in EVENTS:
                return
            named = [getattr(one, "co_filename", one) for one in arguments if one is not None]
            if event in ALWAYS or any(str(under) in str(one)[:4096] for one in named):
                os.write(descriptor, f"{event} {named}\n".encode())

        sys.addaudithook(hook)

    return begin
