"""A run as one of its checkpoints has it: which checkpoint is meant, the config in it, and where the paths of that begin."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from events.catalogue import CATALOGUE

from ..checkpoint import manifest
from ..checkpoint.contents import Checkpoint
from ..checkpoint.folder import CheckpointFolder
from ..config.file import validate
from ..config.tables import Config, PluginEntry
from ..errors import CheckpointError, ConfigError
from ..history.facts import Plan
from ..history.reading import read_plan, read_session
from ..log.redaction import REDACTED
from ..resuming.run_state import STATE
from ..run_folder.folder import CHECKPOINTS

OF_WEIGHTS = frozenset(
    {"model.loaded", "build.scheduler", "build.model", "build.parameters", "build.optimizer", "model.ready",
     "checkpoint.tensors", "export.start"}
)  # fmt: skip
"""Signals whose handlers have a say in what an export holds; plugins without one are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """A checkpoint, and what it takes to put its model together."""

    folder: Path
    checkpoint: Checkpoint
    config: Config
    """As it was when the checkpoint was saved, with the plugins that have a say in the weights."""
    directory: Path
    """Where paths of the config begin."""
    beside: Path
    """The folder of the config's file, beside which plugins are found too."""


def stored_run(folder: Path, wanted: str) -> StoredRun:
    """The run as its checkpoint `wanted` has it: a step, `newest`, or `best`.

    Raises ConfigError for a checkpoint that there is not, and CheckpointError for one that is damaged.
    """
    folder = folder.resolve()
    checkpoint = choose_checkpoint(folder, wanted)
    config, problems = validate(checkpoint.toml("config.toml"))
    if config is None:
        raise ConfigError(str(checkpoint.path / "config.toml"), problems)
    session = read_session(folder)
    directory = _existing(session.directory if session else "", Path.cwd())
    entries = tuple(entry for entry in config.plugins if _is_needed(entry, read_plan(folder)))
    return StoredRun(
        folder=folder, checkpoint=checkpoint, config=config.model_copy(update={"plugins": entries}),
        directory=directory, beside=_existing(session.beside if session else "", directory),
    )  # fmt: skip


def choose_checkpoint(folder: Path, wanted: str) -> Checkpoint:
    """A whole checkpoint of a run. Raises as `stored_run`."""
    existing = {manifest.step_of(path): path for path in CheckpointFolder(folder / CHECKPOINTS, 1).existing()}
    if not existing:
        raise ConfigError("sample", [f"{folder} has no checkpoint yet"])
    if wanted == "newest":
        newest, _ = CheckpointFolder(folder / CHECKPOINTS, 1).newest()
        assert newest is not None  # or it would have raised
        return newest
    if wanted == "best":
        step = _best(folder, existing)
    elif wanted.isascii() and wanted.isdecimal() and int(wanted) in existing:
        step = int(wanted)
    else:
        listed = ", ".join(map(str, sorted(existing)))
        raise ConfigError(
            "sample", [f"--checkpoint {wanted}: {folder.name} has {listed}; newest and best mean one of them"]
        )
    return _whole(existing[step])


def _best(folder: Path, existing: dict[int, Path]) -> int:
    """The step of the checkpoint with the lowest loss on the first validation set, as the newest remembers them."""
    newest = _whole(existing[max(existing)])
    sets: dict[str, Any] = newest.json(STATE).get("validation", {})
    measured: dict[int, float] = {step: loss for step, loss in next(iter(sets.values()), ()) if step in existing}
    if not measured:
        listed = ", ".join(map(str, sorted(existing)))
        raise ConfigError(
            "sample",
            [
                f"--checkpoint best: of no checkpoint of {folder.name} the validation loss was measured; name one of {listed}"
            ],
        )
    return min(measured, key=lambda step: (measured[step], step))


def _whole(path: Path) -> Checkpoint:
    problem = manifest.problem_with(path)
    if problem is not None:
        raise CheckpointError(f"{path}: {problem}")
    return Checkpoint(path=path, step=manifest.step_of(path), facts=manifest.read(path))


def _is_needed(entry: PluginEntry, plan: Plan | None) -> bool:
    """Whether a plugin has a say in the weights, as far as is known; one whose secrets were left out cannot be made."""
    if REDACTED in json.dumps(entry.model_dump(mode="json")):
        return False
    signals = plan.signals if plan is not None else ()
    if {signal.name for signal in signals} - {spec.name for spec in CATALOGUE}:
        return True  # plugins with signals of their own need each other
    handled = {signal.name for signal in signals for one in signal.handlers if one.plugin == name_of_entry(entry)}
    return not handled or bool(handled & OF_WEIGHTS)


def name_of_entry(entry: PluginEntry) -> str:
    """What the run calls the plugin."""
    return entry.name or entry.use.rpartition(".")[2]


def _existing(text: str, other: Path) -> Path:
    path = Path(text)
    return path if text and path.is_dir() else other
