"""Checkpoints: one kind, complete or absent, that resumes everything.

A checkpoint is a folder `step-00000500/` of safetensors and JSON. It is written under a temporary name, every file is
flushed, the manifest with sizes and sha256 comes last, one rename makes it visible, and only then older ones go. There
is no `latest` pointer to be wrong: the newest is found by looking.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from .errors import CheckpointError

SCHEMA = 1
MANIFEST = "manifest.json"
PREFIX = "step-"
TEMPORARY = ".tmp-"
CHUNK_BYTES = 1 << 20
Retain = Callable[[int, tuple[int, ...]], tuple[int, ...]]
"""(step of the new checkpoint, steps whose checkpoints would go, newest first) -> those that go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A verified checkpoint on disk."""

    path: Path
    step: int

    def tensors(self, name: str) -> dict[str, Tensor]:
        from safetensors.torch import load_file

        return load_file(self.path / f"{name}.safetensors")

    def json(self, name: str) -> Any:
        return json.loads((self.path / f"{name}.json").read_text(encoding="utf-8"))

    def text(self, name: str) -> str:
        return (self.path / name).read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What goes into a checkpoint."""

    tensors: Mapping[str, Mapping[str, Tensor]]
    """By file name without `.safetensors`."""
    jsons: Mapping[str, Any]
    texts: Mapping[str, str]


class CheckpointFolder:
    """The checkpoints of one run."""

    def __init__(self, folder: Path, keep: int, keep_every: int = 0) -> None:
        """The newest `keep` stay, and those whose step is a multiple of `keep_every`, where that is not 0."""
        self.folder = folder
        self._keep = keep
        self._keep_every = keep_every

    def save(self, step: int, contents: Contents, retain: Retain | None = None) -> Path:
        """Write, commit, then prune. An existing checkpoint of this step is left as it is."""
        target = self.folder / f"{PREFIX}{step:08d}"
        if problem_with(target) is None:
            return target
        self.folder.mkdir(parents=True, exist_ok=True)
        self._sweep()
        building = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=self.folder))
        _write(building, contents)
        commit(building, target, step)
        self._prune(step, retain)
        return target

    def newest(self) -> tuple[Checkpoint | None, tuple[str, ...]]:
        """The newest checkpoint whose every byte is as written, and why newer ones were passed over.

        Raises CheckpointError when there are checkpoints and none is whole: starting from zero would lose work.
        """
        problems: list[str] = []
        for path in self._existing():
            problem = problem_with(path)
            if problem is None:
                return Checkpoint(path=path, step=_step_of(path)), tuple(problems)
            problems.append(f"{path}: {problem}")
        if problems:
            listed = "\n  ".join(problems)
            raise CheckpointError(f"no checkpoint can be used; start anew with --fresh\n  {listed}")
        return None, ()

    def _existing(self) -> list[Path]:
        """Newest step first."""
        if not self.folder.is_dir():
            return []
        found = [
            path
            for path in self.folder.iterdir()
            if path.name.startswith(PREFIX) and path.name[len(PREFIX) :].isdigit()
        ]
        return sorted(found, key=_step_of, reverse=True)

    def _prune(self, new: int, retain: Retain | None) -> None:
        whole = {_step_of(path): path for path in self._existing() if (path / MANIFEST).is_file()}
        every = self._keep_every
        going = tuple(step for step in list(whole)[self._keep :] if not (every and step % every == 0))
        for step in retain(new, going) if retain and going else going:
            path = whole[step]
            (path / MANIFEST).unlink()  # from here on it is no checkpoint, whenever the rest goes
            shutil.rmtree(path)

    def _sweep(self) -> None:
        """Remove what an interrupted save or removal left behind."""
        for path in self.folder.glob(f"{TEMPORARY}*"):
            shutil.rmtree(path, ignore_errors=True)
        for path in self._existing():
            if not (path / MANIFEST).is_file():
                shutil.rmtree(path, ignore_errors=True)


def commit(building: Path, target: Path, step: int) -> None:
    """Flush every file, write the manifest, flush the folder, rename, flush the parent. Nobody else renames."""
    files = {}
    for path in sorted(building.iterdir()):
        _flush(path)
        files[path.name] = {"bytes": path.stat().st_size, "sha256": _sha256(path)}
    manifest = {"schema": SCHEMA, "step": step, "files": files}
    (building / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    _flush(building / MANIFEST)
    _flush(building)
    if target.exists():  # a damaged one of the same step, kept for whoever wants to look
        target.rename(Path(tempfile.mkdtemp(prefix=f"{target.name}.corrupt-", dir=target.parent)) / target.name)
    building.rename(target)
    _flush(target.parent)


def problem_with(path: Path) -> str | None:
    """Why a folder is no whole checkpoint, or None."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        if manifest["schema"] != SCHEMA:
            return f"written by schema {manifest['schema']}, this version reads {SCHEMA}"
        if manifest["step"] != _step_of(path):
            return f"its manifest is of step {manifest['step']}"
        expected: dict[str, dict[str, Any]] = manifest["files"]
    except FileNotFoundError:
        return "has no manifest"
    except (ValueError, KeyError, TypeError) as error:
        return f"its manifest cannot be read: {error!r}"
    present = {entry.name for entry in path.iterdir()} - {MANIFEST}
    for name in sorted(present ^ set(expected)):
        return f"{name} is {'missing' if name in expected else 'not part of it'}"
    for name, facts in expected.items():
        if (path / name).stat().st_size != facts["bytes"]:
            return f"{name} has {(path / name).stat().st_size} bytes of {facts['bytes']}"
        if _sha256(path / name) != facts["sha256"]:
            return f"{name} is damaged (its sha256 differs)"
    return None


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(dotted key, old value, new value) of two nested mappings, in order of the keys."""
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from differences(before, after, f"{prefix}{key}.")
        elif before != after:
            yield f"{prefix}{key}", before, after


def _write(folder: Path, contents: Contents) -> None:
    from safetensors.torch import save_file

    for name, tensors in contents.tensors.items():
        save_file(dict(tensors), folder / f"{name}.safetensors")
    for name, value in contents.jsons.items():
        (folder / f"{name}.json").write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    for name, text in contents.texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def _flush(path: Path) -> None:
    """Make a file's bytes, or a folder's entries, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _step_of(path: Path) -> int:
    return int(path.name.removeprefix(PREFIX))
