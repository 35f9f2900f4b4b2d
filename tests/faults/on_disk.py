"""What a run has left on disk, judged without the product's help."""

import json
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from .bench import Child, Workspace


def is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint's manifest and files agree, names, sizes, bytes and step."""
    try:
        manifest = json.loads((checkpoint / "manifest.json").read_text())
        present = {path.name for path in checkpoint.iterdir()} - {"manifest.json"}
        return (
            manifest["step"] == int(checkpoint.name[5:])
            and present == set(manifest["files"])
            and all(
                sha256((checkpoint / name).read_bytes()).hexdigest() == facts["sha256"]
                for name, facts in manifest["files"].items()
            )
        )
    except (OSError, ValueError, KeyError):
        return False


def whole_steps(workspace: Workspace) -> list[int]:
    """Steps of which there is a whole checkpoint."""
    return [int(path.name[5:]) for path in workspace.checkpoints if is_whole(path)]


def taken_steps(workspace: Workspace) -> int:
    """Steps that were taken, checkpoint or not; 0 where nothing says."""
    place = workspace.run / "position"
    return int(place.read_bytes()) if place.exists() and place.stat().st_size else 0


def leftovers(workspace: Workspace) -> list[str]:
    """Names beside the checkpoints, of saves that did not come to their end."""
    return sorted(path.name for path in (workspace.run / "checkpoints").glob(".tmp-*"))


def tree(folder: Path) -> dict[str, tuple[int, str]]:
    """Moment of the last change and digest of every file below."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, sha256(path.read_bytes()).hexdigest())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def wait_until(condition: Callable[[], bool], child: Child, timeout: float = 30.0) -> bool:
    """Whether it came to hold before the child ended, or the time was over."""
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        if condition():
            return True
        if not child.is_running:
            return False
        time.sleep(0.001)
    return False


def steps_again(workspace: Workspace) -> Callable[[], bool]:
    """Whether a step has been taken since now."""
    place = workspace.run / "position"
    before = place.read_bytes() if place.exists() else b""
    return lambda: place.exists() and place.read_bytes() not in (before, b"")


def is_saving(workspace: Workspace) -> bool:
    return bool(leftovers(workspace))


def seal_again(checkpoint: Path) -> None:
    """Make the manifest fit what is in the folder now."""
    from core.checkpoint import manifest

    stored = json.loads((checkpoint / manifest.NAME).read_text())
    write_manifest(checkpoint, stored)


def write_manifest(checkpoint: Path, stored: dict[str, Any]) -> None:
    """A manifest with these facts, in order but for what they say."""
    from core.checkpoint import manifest

    files = {name: manifest.facts_of(checkpoint / name) for name in stored["files"]}
    facts = {key: value for key, value in stored.items() if key not in ("schema", "step", "files", "seal")}
    (checkpoint / manifest.NAME).write_text(manifest.make(stored["step"], files, facts))
