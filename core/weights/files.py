"""Weights are read from safetensors alone, and what a file is its content says, never its name.

A safetensors file is the length of its header as 8 bytes, little-endian, the header, a table in JSON, and then numbers:
nothing in it can be run. A pickle, and a zip with one inside as torch writes it, is a program.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from ..invocation import typed

LARGEST_HEADER = 100_000_000
"""Bytes, as the library itself has it."""
PICKLED = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
"""How the names of pickled weights end."""
ADVICE = "is not opened, since opening it may run a program that lies in it; make a safe file of it once with"


def problem_with_weights(path: Path) -> str:
    """Why the file is no whole safetensors file, with what to do; empty for one that is."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        first = stream.read(9)
    length = int.from_bytes(first[:8], "little")
    if first[8:] == b"{" and 8 + length <= size and length <= LARGEST_HEADER:
        return ""
    if kind := _pickled_kind(first, path):
        return f"{path} is {kind} and {ADVICE}: {convert_command(path)}"
    if first[8:] != b"{":
        return f"{path} is no .safetensors file by its content, whatever its name says"
    return f"{path} is no whole .safetensors file: its header would have {length} bytes and the file has {size}"


def convert_command(path: Path) -> str:
    """The command that makes a safetensors file of a pickled one, beside it."""
    return typed(f"convert {path} {_converted(path)}")


def folder_problems(folder: Path) -> Iterator[str]:
    """What is wrong with the files of weights in the folder of a model's part.

    Only files beside them count: an index that names a place elsewhere, or a file of another kind, is told too.
    """
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".safetensors")
    pickled = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICKLED)
    if not files and pickled:
        yield f"{folder} holds no .safetensors; {pickled[0].name} {ADVICE}: {convert_command(pickled[0])}"
    for index in sorted(folder.glob("*.safetensors.index.json")):
        yield from _index_problems(index)
    for path in files:
        if problem := problem_with_weights(path):
            yield problem


def adapter_file(path: Path) -> Path:
    """The file itself, or the adapter in the folder of an export."""
    return path / "pytorch_lora_weights.safetensors" if path.is_dir() else path


def adapter_problem(path: Path) -> str:
    """Why an adapter that is there cannot be read; empty for one that can, and where there is none."""
    file = adapter_file(path)
    return problem_with_weights(file) if file.is_file() else ""


def _index_problems(path: Path) -> Iterator[str]:
    """Of a table that says which tensor is in which of several files."""
    try:
        named = set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values())
        strange = sorted(name for name in named if Path(name).name != name or not name.endswith(".safetensors"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        yield f"{path} is no index of weights: {error!r}"
        return
    if strange:
        yield f"{path} names {strange[0]!r}; it may name .safetensors files beside it only"


def _pickled_kind(first: bytes, path: Path) -> str:
    if first.startswith(b"PK\x03\x04"):
        return "a zip archive, as torch pickles weights,"
    if first[:1] == b"\x80" or path.suffix.lower() in PICKLED:
        return "a pickle"
    return ""


def _converted(path: Path) -> Path:
    """Named as the library looks for it where the file is a part of a model's folder."""
    stem = "model" if path.stem == "pytorch_model" else path.stem
    if path.suffix.lower() == ".safetensors":
        stem += "-converted"
    return path.with_name(f"{stem}.safetensors")
