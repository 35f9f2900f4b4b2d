"""The one way in which a checkpoint comes to be: built aside, flushed, named by one rename, read back."""

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from ..errors import NonFiniteError
from . import manifest
from .contents import Contents

TEMPORARY = ".tmp-"
OS_ERROR = re.compile(r"\(os error (\d+)\)")
"""In what safetensors says."""


def write(folder: Path, step: int, contents: Contents) -> Path:
    """The new checkpoint, whole on disk. Raises OSError, and NonFiniteError for contents that nobody wants to resume."""
    require_numbers(contents)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=folder))
    try:
        if contents.parts is not None:
            contents.parts.write(building)
        _fill(building, contents)
        target = commit(building, folder / f"{manifest.PREFIX}{step:08d}", step, contents)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    problem = difference(target, contents)
    if problem is not None:
        set_aside(target)
        raise OSError(errno.EIO, f"{target.name} was written and reads back otherwise: {problem}")
    return target


def commit(building: Path, target: Path, step: int, contents: Contents) -> Path:
    """Flush every file, write the manifest, flush the folder, rename, flush the parent. Nobody else renames."""
    files = dict(contents.parts.facts) if contents.parts is not None else {}
    for path in sorted(building.iterdir()):
        flush(path)
        if path.name not in files:  # else as the process that wrote it says
            files[path.name] = manifest.facts_of(path)
    _write_text(building / manifest.NAME, manifest.make(step, files, contents.facts))
    flush(building / manifest.NAME)
    flush(building)
    if target.exists():  # a damaged one of the same step, kept for whoever wants to look
        set_aside(target)
    os.rename(building, target)
    flush(target.parent)
    return target


def set_aside(path: Path) -> Path:
    """Rename a damaged checkpoint, so that it is none any more and can still be looked at."""
    number, aside = 1, path.with_name(f"{path.name}.corrupt")
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.corrupt-{number}")
    os.rename(path, aside)
    return aside


def require_numbers(contents: Contents) -> None:
    """Raises NonFiniteError when a tensor holds NaN, or a weight infinity."""
    for group, tensors in contents.tensors.items():
        if problem := number_problem({f"{group}/{name}": tensor for name, tensor in tensors.items()}):
            raise NonFiniteError(problem)


def number_problem(tensors: Mapping[str, Tensor]) -> str:
    """Which of the tensors, by "file/name", holds NaN, or is a weight with infinity; empty for none."""
    for place, tensor in tensors.items():
        if not tensor.is_floating_point():
            continue
        group, _, name = place.partition("/")
        wrong = tensor.isnan().any() if group != "weights" else ~tensor.isfinite().all()
        if bool(wrong):
            return (
                f"no checkpoint was written: {name} in {group} is not finite. The last checkpoint stands; lower"
                " train.learning_rate, or look at the plugins that change weights or keep copies of them"
            )
    return ""


def difference(target: Path, contents: Contents) -> str | None:
    """Where what was written and the contents differ, or None; everything is read back."""
    from safetensors import SafetensorError, safe_open

    problem = manifest.problem_with(target)
    if problem is not None:
        return problem
    for group, tensors in contents.tensors.items():
        try:
            with safe_open(target / f"{group}.safetensors", framework="pt") as stored:
                for name, tensor in tensors.items():
                    if not _same_bytes(stored.get_tensor(name), tensor):
                        return f"{name} in {group}"
        except SafetensorError as error:
            return f"{group} ({error})"
    return None


@contextmanager
def disk_errors() -> Generator[None, None, None]:
    """What the disk says while safetensors writes is an OSError, as everywhere else."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        number = OS_ERROR.search(str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


def flush(path: Path) -> None:
    """Make a file's bytes, or a folder's entries, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fill(folder: Path, contents: Contents) -> None:
    from safetensors import torch as safetensors_torch

    for name, tensors in contents.tensors.items():
        with disk_errors():
            safetensors_torch.save_file(dict(tensors), folder / f"{name}.safetensors")
    for name, value in contents.jsons.items():
        _write_text(folder / f"{name}.json", json.dumps(value, indent=1, allow_nan=False) + "\n")
    for name, text in contents.texts.items():
        _write_text(folder / name, text)


def _write_text(path: Path, text: str) -> None:
    rest = memoryview(text.encode("utf-8"))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    finally:
        os.close(descriptor)


def _same_bytes(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(one.reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8))
