"""The manifest: what a checkpoint consists of. A folder whose manifest does not fit it is no checkpoint."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import CheckpointError

SCHEMA = 2
READ = (1, 2)
"""Schemas that are read; the first had neither a run's name nor versions in the manifest."""
NAME = "manifest.json"
PREFIX = "step-"
SEAL = ',\n "manifest_sha256": "'
CHUNK_BYTES = 1 << 20
MAX_BYTES = 1 << 24
"""Of a manifest; it has a few lines for each file."""


def make(step: int, files: Mapping[str, Mapping[str, Any]], facts: Mapping[str, Any]) -> str:
    """The manifest's text; `files` have `bytes` and `sha256` by name. It ends with a digest of all that precedes."""
    text = json.dumps({"schema": SCHEMA, "step": step, **facts, "files": files}, indent=1, ensure_ascii=True)
    head = text.removesuffix("\n}")
    return head + SEAL + _sealing(head)


def problem_with(path: Path) -> str | None:
    """Why a folder is no whole checkpoint, or None."""
    try:
        manifest = read(path)
    except CheckpointError as error:
        return str(error)
    try:
        return _problem_with_files(path, manifest["files"])
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def read(path: Path) -> Mapping[str, Any]:
    """The manifest of a folder. Raises CheckpointError with the rest of a sentence about the folder."""
    place = path / NAME
    try:
        if place.stat().st_size > MAX_BYTES:
            raise CheckpointError(f"its manifest has {place.stat().st_size:,} bytes and is none")
        text = place.read_text(encoding="utf-8")
        manifest = json.loads(text)
        _require_known(manifest, path)
        head, seal, sealing = text.rpartition(SEAL)
        if manifest["schema"] > 1 and not (seal and sealing == _sealing(head)):
            raise CheckpointError("its manifest is damaged (its sha256 differs)")
    except FileNotFoundError:
        raise CheckpointError("has no manifest") from None
    except OSError as error:
        raise CheckpointError(f"its manifest cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"its manifest cannot be read: {error!r:.200}") from None
    found: Mapping[str, Any] = manifest
    return found


def facts_of(file: Path) -> dict[str, Any]:
    """Size and sha256 of a file."""
    return {"bytes": file.stat().st_size, "sha256": sha256_of(file)}


def sha256_of(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def step_of(path: Path) -> int:
    """The step in a checkpoint's name."""
    return int(path.name.removeprefix(PREFIX))


def is_named_as_one(path: Path) -> bool:
    """Whether a name is that of a checkpoint."""
    number = path.name.removeprefix(PREFIX)
    return path.name.startswith(PREFIX) and number.isascii() and number.isdecimal()


def _sealing(head: str) -> str:
    return f'{hashlib.sha256(head.encode()).hexdigest()}"\n}}\n'


def _require_known(manifest: Mapping[str, Any], path: Path) -> None:
    if manifest["schema"] not in READ:
        raise CheckpointError(
            f"is written by schema {manifest['schema']!r:.40}, and this version reads {' and '.join(map(str, READ))};"
            " use the version of Signalbox that wrote it"
        )
    if manifest["step"] != step_of(path):
        raise CheckpointError(f"its manifest is of step {manifest['step']!r:.40}")
    for name, facts in manifest["files"].items():
        if "/" in name or name in ("", ".", "..") or not isinstance(facts["bytes"], int):
            raise ValueError(f"{name!r:.80} is no file of a checkpoint")
        facts["sha256"]  # KeyError says that it is missing


def _problem_with_files(path: Path, expected: Mapping[str, Mapping[str, Any]]) -> str | None:
    present = {entry.name for entry in path.iterdir()} - {NAME}
    for name in sorted(present ^ set(expected)):
        return f"{name} is {'missing' if name in expected else 'not part of it'}"
    for name, facts in expected.items():
        size = (path / name).stat().st_size
        if size != facts["bytes"]:
            return f"{name} has {size} bytes of {facts['bytes']}"
        if sha256_of(path / name) != facts["sha256"]:
            return f"{name} is damaged (its sha256 differs)"
    return None
