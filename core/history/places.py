"""Where runs lie, and which one a name means."""

import os
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

import tomli

from ..errors import ConfigError
from .facts import RECORD
from .reading import CONFIG

DEFAULT = Path("runs")
PARTS = ("checkpoints", "previews", "exports", "log.jsonl")
"""What else shows that a folder is one of a run."""


def runs_folder(config: Path = Path(CONFIG)) -> Path:
    """`run.dir` of the config in the current folder, where there is one that says so, else `runs`."""
    try:
        named = tomli.loads(config.read_text(encoding="utf-8-sig"))["run"]["dir"]
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return DEFAULT
    return Path(named) if isinstance(named, str) else DEFAULT


def run_folders(folder: Path) -> Iterator[Path]:
    """Folders in `folder` that are or were to be those of runs. Raises ConfigError where it cannot be read."""
    try:
        found = sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError as error:
        raise ConfigError("runs", [f"{folder} cannot be read: {error.strerror}"]) from None
    for path in found:
        if is_run(path) or not os.access(path, os.R_OK | os.X_OK) or any(os.path.exists(path / part) for part in PARTS):
            yield path


def is_run(path: Path) -> bool:
    """Whether a folder is one of a run."""
    return os.path.isfile(path / CONFIG) or os.path.isdir(path / RECORD)


def find_folder(name: str) -> Path:
    """The folder of a run by its path or, in `runs_folder()`, by its name. Raises ConfigError naming those there are."""
    runs = runs_folder()
    places = [path for path in (Path(name), runs / name) if path.is_dir()]
    for path in places:
        if is_run(path):
            return path
    if places:
        return places[0]
    known = [path.name for path in run_folders(runs)] if runs.is_dir() else []
    near = get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(known)}" if known else ""
    raise ConfigError("run", [f"{name} is neither a folder nor a run in {runs}{hint}"])
