"""Whether a run can go on from its newest checkpoint with the config, the data and the plugins of now."""

import json
from collections.abc import Mapping
from typing import Any

import tomli
from torch import Tensor

from events.bus import Bus
from events.catalogue import CATALOGUE, CHECKPOINT_LOADED, RUN_CONFIGURE

from ..checkpoint.contents import Checkpoint
from ..config.changes import change_lines, differences, refuse_unsafe
from ..config.file import to_toml
from ..config.tables import Config
from ..data.identity import changes
from ..data.table import ItemTable
from ..errors import DataError
from ..resuming.packing import TENSOR, unpack
from ..resuming.plugin_states import load_state
from ..resuming.run_state import DATA, PLUGINS, STATE, WEIGHTS, change_of_data, in_words
from ..resuming.trained_weights import require_same_weights
from .findings import Findings

BEFORE = frozenset(spec.name for spec in CATALOGUE[: CATALOGUE.index(CHECKPOINT_LOADED)]) - {RUN_CONFIGURE.name}
"""Signals that have fired when a plugin is given its state; here they have not."""


def compare_settings(config: Config, checkpoint: Checkpoint, found: Findings) -> None:
    """Raises CheckpointError for settings under which the checkpoint would mean something else."""
    changed = list(differences(checkpoint.toml("config.toml"), tomli.loads(to_toml(config))))
    for line in change_lines(changed):
        found.say("", f"changed since the checkpoint: {line}")
    refuse_unsafe(changed)


def compare_data(checkpoint: Checkpoint, items: ItemTable) -> None:
    """Raises DataError for other data than the checkpoint was made with."""
    before = checkpoint.tensors(DATA)
    if before and (found := changes(before, items)):
        raise DataError(change_of_data(found))


def compare_weights(weights: Mapping[str, Tensor], checkpoint: Checkpoint) -> None:
    """Raises CheckpointError for a checkpoint of other weights than those that would be trained, by names and shapes."""
    require_same_weights(weights, checkpoint.shapes(WEIGHTS), checkpoint.path)


def try_states(bus: Bus, checkpoint: Checkpoint, found: Findings) -> None:
    """Give each plugin its state, but for those that do something between their making and that moment."""
    state = checkpoint.json(STATE)
    with in_words(checkpoint):
        trees: Mapping[str, Any] = state["plugins"]
        tried = {name: tree for name, tree in trees.items() if _can_be_tried(bus, name)}
        tensors = checkpoint.tensors(PLUGINS) if TENSOR in json.dumps(tried) else {}
        states = {name: unpack(tree, tensors) for name, tree in tried.items()}
    for name, one in states.items():
        with found.looking():
            load_state(name, bus.plugins[name], one)


def _can_be_tried(bus: Bus, name: str) -> bool:
    handled = {signal.name for signal in bus.signals for handler in signal.handlers if handler.plugin == name}
    return name in bus.plugins and not handled & BEFORE
