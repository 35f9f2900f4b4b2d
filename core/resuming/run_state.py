"""All that a resumed run needs, from the live run into a checkpoint, and from a checkpoint back into the run.

What is read is compared with the run to its last tensor before anything is changed: a checkpoint is taken back as a whole
or not at all.
"""

import difflib
import logging
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from events.payloads import ParameterGroup, RunInfo

from ..attached.facts import plugin_facts
from ..checkpoint.contents import Checkpoint, Contents
from ..config.file import to_toml
from ..config.tables import Config
from ..data.identity import Changes, changes, identity
from ..data.table import ItemTable
from ..errors import CheckpointError, DataError
from ..families import Family
from ..step.closed import Step
from ..step.metrics import MetricsRing
from .packing import pack, unpack
from .plugin_states import PluginStates
from .position import Position
from .trained_weights import (
    divided_as,
    expected_bytes,
    is_divided,
    load_optimizer,
    require_same_weights,
    state_divided_as,
    trained_weights,
)

if TYPE_CHECKING:
    from ..run.validation import Validation

log = logging.getLogger("signalbox.train")
WEIGHTS, OPTIMIZER, PLUGINS, DATA, STATE = "weights", "optimizer", "plugins", "data", "state"
LIBRARIES = ("torch", "diffusers", "transformers", "accelerate", "peft", "numpy", "pillow")
"""Whose other version may compute otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A checkpoint that was read and fits the run."""

    checkpoint: Checkpoint
    weights: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    """By parameter name, as `RunState` stores it."""
    step: Mapping[str, Any]
    plugins: Mapping[str, Any]
    state: Mapping[str, Any]
    position: Position


@dataclass(slots=True, kw_only=True)
class RunState:
    """Everything that training changes."""

    config: Config
    run: RunInfo
    family: Family
    trained: Mapping[str, nn.Module]
    """The trained modules without wrappers, by name."""
    optimizer: torch.optim.Optimizer
    groups: tuple[ParameterGroup, ...]
    step: Step
    validation: "Validation"
    plugins: PluginStates
    plan_lines: tuple[str, ...]
    items: ItemTable
    """What is trained on."""
    processes: int = 1
    accept_data_change: bool = False
    _identity: dict[str, Tensor] = field(default_factory=dict)

    def collect(self, position: Position, untold: Mapping[str, Any], take: Callable[[Tensor], Tensor]) -> Contents:
        """What a checkpoint at this boundary holds, each tensor copied by `take`; `untold` is the state of the metrics.

        Raises PluginError for a plugin whose state cannot be had.
        """
        weights = {name: take(tensor) for name, tensor in self.weights().items()}
        optimizer_tree, optimizer_tensors = pack(self._optimizer_state(), OPTIMIZER, take)
        step_tree, step_tensors = pack(self.step.state(), "step", take)
        plugin_trees, plugin_tensors = self.plugins.collect(take)
        self._identity = self._identity or identity(self.items)
        state = {
            "run": self.run.name,
            "processes": self.processes,
            "model": self.family.origin,
            "position": position.state(),
            "optimizer": optimizer_tree,
            "step": step_tree,
            "plugins": plugin_trees,
            "versions": self.plugins.versions,
            "metrics": untold,
            "validation": self.validation.state(),
            "plan": list(self.plan_lines),
        }
        return Contents(
            tensors={
                WEIGHTS: weights,
                OPTIMIZER: optimizer_tensors | step_tensors,
                PLUGINS: plugin_tensors,
                DATA: self._identity,
            },
            jsons={STATE: state},
            texts={"config.toml": to_toml(self.config)},
            facts={"run": self.run.name, "libraries": library_versions(), "plugins": plugin_facts(self.plugins.bus)},
        )

    def take_part(self) -> None:
        """What `collect` on the main rank takes of this one, where the optimizer's state is divided. A collective."""
        for entries in self._optimizer_state()["state"].values():
            for _ in entries.values():
                pass  # gathered as it is read

    def read(self, checkpoint: Checkpoint) -> Stored:
        """Everything a checkpoint holds. Changes nothing.

        Raises CheckpointError where it does not fit the run, DataError where the data has changed since, unless that is
        accepted.
        """
        own = self.weights()
        weights = checkpoint.tensors(WEIGHTS, divided_as(own))
        optimizer_tensors = checkpoint.tensors(OPTIMIZER, state_divided_as(self.groups, OPTIMIZER))
        kept = self.plugins.tensors() if any(map(is_divided, own.values())) else {}
        plugin_tensors, state = checkpoint.tensors(PLUGINS, divided_as(kept)), checkpoint.json(STATE)
        require_same_weights(own, weights, checkpoint.path)
        with in_words(checkpoint):
            stored = Stored(
                checkpoint=checkpoint,
                weights=weights,
                optimizer=unpack(state["optimizer"], optimizer_tensors),
                step=unpack(state.get("step", {}), optimizer_tensors),
                plugins={name: unpack(tree, plugin_tensors) for name, tree in state["plugins"].items()},
                state=state,
                position=Position.from_state(state["position"]),
            )
            self._require_same_optimizer(stored.optimizer, checkpoint)
        self._compare_data(checkpoint.tensors(DATA), stored.position)
        return stored

    def apply(self, stored: Stored, metrics: MetricsRing) -> Position:
        """Take it back; returns where the run stands. The weights come last, so that no failure leaves them changed."""
        state = stored.state
        with in_words(stored.checkpoint):
            self._tell_changes_of_plan(state["plan"])
            tell_changes_of_libraries(stored.checkpoint.facts.get("libraries", {}))
            self._load_optimizer(stored.optimizer)
            self.step.load_state(stored.step)
            self.plugins.give_back(stored.plugins, state["versions"])
            metrics.load(state["metrics"])
            self.validation.load(state.get("validation", {}))
        with torch.no_grad():
            for name, tensor in self.weights().items():
                tensor.copy_(stored.weights[name])
        return stored.position

    def weights(self) -> dict[str, Tensor]:
        """What training may change: every tensor of the trained modules but frozen weights, which come from the model."""
        return trained_weights(self.trained)

    def expected_bytes(self) -> int:
        """About what a checkpoint takes."""
        return expected_bytes(self.weights(), self.optimizer, self.groups)

    def _compare_data(self, before: Mapping[str, Tensor], position: Position) -> None:
        """Other data is refused; or, where it is accepted, the epoch ends where it stands and the next has the new data."""
        found = changes(before, self.items) if before else None
        if not found:
            return
        if not self.accept_data_change:
            raise DataError(change_of_data(found))
        if position.epoch_started:
            position.end_epoch()
        log.warning(
            "the data has changed since the checkpoint, and that is accepted: %s; epoch %d begins with it",
            found.sentence(), position.epoch,
        )  # fmt: skip

    def _require_same_optimizer(self, saved: Mapping[str, Any], checkpoint: Checkpoint) -> None:
        """Moments have the shape of their weight; what an optimizer keeps in fewer dimensions is its own affair."""
        parameters = {name: tensor for group in self.groups for name, tensor in group.parameters.items()}
        for name, entries in saved["state"].items():
            for key, value in entries.items():
                if not isinstance(value, Tensor) or name not in parameters:
                    continue
                if value.ndim == parameters[name].ndim >= 2 and not _fits(value, parameters[name]):
                    raise CheckpointError(
                        f"{checkpoint.path}: the optimizer's {key} of {name} has the shape {tuple(value.shape)}, and the"
                        f" weight {tuple(parameters[name].shape)}; use --fresh to start anew"
                    )
        if not saved["groups"]:
            raise ValueError("the optimizer has no groups")

    def _optimizer_state(self) -> dict[str, Any]:
        """The optimizer's state by parameter name, so that it fits however the groups are cut."""
        stored = self.optimizer.state_dict()
        names = self._parameter_names()
        groups = [{key: value for key, value in table.items() if key != "params"} for table in stored["param_groups"]]
        return {"state": {names[number]: value for number, value in stored["state"].items()}, "groups": groups}

    def _load_optimizer(self, saved: Mapping[str, Any]) -> None:
        load_optimizer(self.optimizer, self.groups, saved, self.config.train.optimizer_options)

    def _parameter_names(self) -> list[str]:
        return [name for group in self.groups for name in group.parameters]

    def _tell_changes_of_plan(self, before: list[str]) -> None:
        """Handlers that ran when the checkpoint was taken and do not now, and the other way round."""
        for line in difflib.ndiff(before, list(self.plan_lines)):
            if line.startswith(("- ", "+ ")):
                log.info("changed in the plan: %s", line)


def change_of_data(found: Changes) -> str:
    """What keeps a run from going on with other data, and what to do."""
    return (
        f"the data has changed since the checkpoint: {found.sentence()}; put it back, start anew with --fresh, or"
        " go on with --accept-dataset-change"
    )


@contextmanager
def in_words(checkpoint: Checkpoint) -> Generator[None, None, None]:
    """A state of another form than this version writes is a CheckpointError."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, RuntimeError) as error:
        raise CheckpointError(
            f"{checkpoint.path} is whole, and its {STATE}.json does not say what this version reads ({error!r:.200});"
            " use --fresh to start anew"
        ) from error


@cache
def library_versions() -> dict[str, str]:
    """Of the libraries that compute."""
    return {name: version(name) for name in LIBRARIES}


def tell_changes_of_libraries(before: Mapping[str, str]) -> None:
    """Warn of other versions than those that wrote the checkpoint: the run goes on, and its bits may be others."""
    now = library_versions()
    changed = [f"{name} {old} -> {now[name]}" for name, old in before.items() if name in now and now[name] != old]
    if changed:
        log.warning(
            "libraries have changed since the checkpoint, so results may differ in their last bits: %s",
            ", ".join(changed),
        )


def _fits(value: Tensor, weight: Tensor) -> bool:
    """Whether each side is the weight's, or 1 where an optimizer keeps a mean over it."""
    return all(side in (1, own) for side, own in zip(value.shape, weight.shape, strict=True))
