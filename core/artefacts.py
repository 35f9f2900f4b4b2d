"""What a run leaves behind and when: previews, checkpoints and exports, on their own rhythms or on request."""

import difflib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import nn

from events.bus import Bus
from events.catalogue import CHECKPOINT_LOADED, CHECKPOINT_RETENTION, CHECKPOINT_SAVED, CHECKPOINT_START
from events.payloads import (
    CheckpointLoaded,
    CheckpointSaved,
    CheckpointStart,
    ParameterGroup,
    RetentionContext,
    RunInfo,
)

from .checkpoint import Checkpoint, CheckpointFolder, Contents
from .config import Config
from .config_file import to_toml
from .errors import CheckpointError
from .evaluation_weights import evaluation_weights
from .export import Exporter
from .families import Family
from .metrics import MetricsRing
from .optimisation import lay_out_state
from .packing import pack, unpack
from .position import Position
from .preview import Previews
from .step import Step
from .validation import Validation

log = logging.getLogger("signalbox.train")
WEIGHTS, OPTIMIZER, PLUGINS = "weights", "optimizer", "plugins"


@dataclass(slots=True, kw_only=True)
class Artefacts:
    """Previews, checkpoints and exports of one run."""

    config: Config
    run: RunInfo
    bus: Bus
    family: Family
    trained: Mapping[str, nn.Module]
    """The trained modules without wrappers, by name."""
    optimizer: torch.optim.Optimizer
    groups: tuple[ParameterGroup, ...]
    step: Step
    checkpoints: CheckpointFolder
    previews: Previews
    validation: Validation
    plan_lines: tuple[str, ...]
    _asked: list[tuple[str, str]] = field(default_factory=list)

    def ask(self, kind: str, reason: str) -> None:
        """Have a `save`, a `preview`, an `evaluate` or an `export` at the next boundary."""
        self._asked.append((kind, reason))

    def at_start(self) -> None:
        """What is wanted of the model before its first step."""
        if self.config.validation.at_start:
            self._measure(0, 0, "start")
        if self.config.preview.at_start:
            self._preview(0, "start")

    def validate_when_due(self, position: Position) -> bool:
        """Measure the validation loss where it is due or asked for; whether it was."""
        every = position.settings.get("validation.every_steps", self.config.validation.every_steps)
        asked = dict(self._asked)
        self._asked = [(kind, reason) for kind, reason in self._asked if kind != "evaluate"]
        if "evaluate" not in asked and not _due(position.step, every):
            return False
        self._measure(position.step, position.epoch, asked.get("evaluate", "every"))
        return True

    def keep_up(self, position: Position, metrics: MetricsRing) -> None:
        """Whatever else is due or asked for at this boundary; waits for the device only then."""
        step, asked = position.step, dict(self._asked)
        self._asked.clear()
        every = position.settings.get("preview.every_steps", self.config.preview.every_steps)
        if "preview" in asked or _due(step, every):
            self._preview(step, asked.get("preview", "every"))
        every = position.settings.get("checkpoint.every_steps", self.config.checkpoint.every_steps)
        if "save" in asked or _due(step, every):
            self.save(position, metrics, asked.get("save", "every"))
        if "export" in asked or _due(step, self.config.export.every_steps):
            self.export(step)

    def at_end(self, position: Position, metrics: MetricsRing, *, reason: str) -> None:
        """The last validation and preview of a complete run, and the last checkpoint of any."""
        asked = dict(self._asked)
        if reason == "complete" or "evaluate" in asked:
            self._measure(position.step, position.epoch, asked.get("evaluate", "end"))
        if (self.config.preview.at_end and reason == "complete") or "preview" in asked:
            self._preview(position.step, asked.get("preview", "end"))
        self.save(position, metrics, reason)
        if "export" in asked and not (reason == "complete" and self.config.export.at_end):
            self.export(position.step)

    def save(self, position: Position, metrics: MetricsRing, reason: str) -> Path:
        """Write a checkpoint after the lanes are drained (P7); waits for the device."""
        begun = perf_counter()
        self.bus.lanes.drain()
        self.bus.surface_async_failures()
        if self.bus[CHECKPOINT_START].chain:
            self.bus[CHECKPOINT_START].emit(CheckpointStart(run=self.run, step=position.step, reason=reason))
            self.bus.lanes.drain()  # a handler may have handed something over
            self.bus.surface_async_failures()
        path = self.checkpoints.save(position.step, self._contents(position, metrics), self._retain)
        log.info("checkpoint %s (%s, %.1f s)", path, reason, perf_counter() - begun)
        signal = self.bus[CHECKPOINT_SAVED]
        if signal.chain:
            files = tuple(sorted(entry.name for entry in path.iterdir()))
            signal.emit(CheckpointSaved(run=self.run, step=position.step, reason=reason, path=path, files=files))
        return path

    def load(self, checkpoint: Checkpoint, metrics: MetricsRing) -> Position:
        """Read and check everything, then apply it; returns where the run stands.

        Raises CheckpointError when the checkpoint does not fit the model, before anything is changed.
        """
        weights, optimizer_tensors = checkpoint.tensors(WEIGHTS), checkpoint.tensors(OPTIMIZER)
        plugin_tensors, state = checkpoint.tensors(PLUGINS), checkpoint.json("state")
        own = self._weights()
        if set(own) != set(weights) or any(own[name].shape != weights[name].shape for name in own):
            strange = sorted(set(own) ^ set(weights)) or [
                name for name in own if own[name].shape != weights[name].shape
            ]
            raise CheckpointError(
                f"{checkpoint.path} is of another model, or other weights are trained now than then (train.parameters,"
                f" or a plugin): {len(strange)} tensors differ, such as {strange[0]}"
            )
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(weights[name])
        self._tell_changes_of_plan(state["plan"])
        self._tell_changes_of_version(state["versions"])
        self._load_optimizer(unpack(state["optimizer"], optimizer_tensors))
        self.step.load_state(unpack(state.get("step", {}), optimizer_tensors))
        self._load_plugins({name: unpack(tree, plugin_tensors) for name, tree in state["plugins"].items()})
        metrics.load(state["metrics"])
        self.validation.load(state.get("validation", {}))
        position = Position.from_state(state["position"])
        if self.bus[CHECKPOINT_LOADED].chain:
            self.bus[CHECKPOINT_LOADED].emit(CheckpointLoaded(run=self.run, step=position.step, path=checkpoint.path))
        return position

    def export(self, step: int) -> Path:
        bare = {name: self.trained.get(name, module) for name, module in self.family.modules.items()}
        exporter = Exporter(bus=self.bus, run=self.run, family=self.family, modules=bare, settings=self.config.export)
        with evaluation_weights(self.optimizer):
            path = exporter.export(step)
        log.info("exported %s", path)
        return path

    def _retain(self, new: int, going: tuple[int, ...]) -> tuple[int, ...]:
        """Of the steps whose checkpoints are about to go, those that plugins let go."""
        context = RetentionContext(run=self.run, step=new)
        let_go: tuple[int, ...] = self.bus[CHECKPOINT_RETENTION].apply(going, context)
        return tuple(step for step in going if step in let_go)

    def _measure(self, step: int, epoch: int, reason: str) -> None:
        with evaluation_weights(self.optimizer):
            self.validation.measure(step, epoch, reason)

    def _preview(self, step: int, reason: str) -> None:
        with evaluation_weights(self.optimizer):
            grid = self.previews.render(step, reason)
        if grid is not None:
            log.info("previews %s", grid)

    def _contents(self, position: Position, metrics: MetricsRing) -> Contents:
        optimizer_tree, optimizer_tensors = pack(self._optimizer_state(), OPTIMIZER)
        step_tree, step_tensors = pack(self.step.state(), "step")
        plugin_trees: dict[str, Any] = {}
        plugin_tensors: dict[str, torch.Tensor] = {}
        for name, plugin in self.bus.plugins.items():
            try:
                plugin_trees[name], tensors = pack(plugin.state_dict(), name)
            except TypeError as error:
                raise CheckpointError(f"the state of plugin {name} cannot be stored: {error}") from error
            plugin_tensors |= tensors
        state = {
            "run": self.run.name,
            "model": self.family.origin,
            "position": position.state(),
            "optimizer": optimizer_tree,
            "step": step_tree,
            "plugins": plugin_trees,
            "versions": {name: plugin.version for name, plugin in self.bus.plugins.items()},
            "metrics": metrics.state(),
            "validation": self.validation.state(),
            "plan": list(self.plan_lines),
        }
        weights = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in self._weights().items()}
        return Contents(
            tensors={WEIGHTS: weights, OPTIMIZER: optimizer_tensors | step_tensors, PLUGINS: plugin_tensors},
            jsons={"state": state},
            texts={"config.toml": to_toml(self.config)},
        )

    def _weights(self) -> dict[str, torch.Tensor]:
        """What training may change: every tensor of the trained modules but frozen weights, which come from the model."""
        return {
            f"{name}.{key}": tensor
            for name, module in self.trained.items()
            for key, tensor in module.state_dict(keep_vars=True).items()
            if tensor.requires_grad or not isinstance(tensor, nn.Parameter)
        }

    def _optimizer_state(self) -> dict[str, Any]:
        """The optimizer's state by parameter name, so that it fits however the groups are cut."""
        stored = self.optimizer.state_dict()
        names = self._parameter_names()
        groups = [{key: value for key, value in table.items() if key != "params"} for table in stored["param_groups"]]
        return {"state": {names[number]: value for number, value in stored["state"].items()}, "groups": groups}

    def _load_optimizer(self, saved: Mapping[str, Any]) -> None:
        """Put the state back; what the config says of the groups now stands over what was stored."""
        now = self.optimizer.state_dict()
        names = self._parameter_names()
        state = {number: saved["state"][name] for number, name in enumerate(names) if name in saved["state"]}
        settled = {"params", "weight_decay", "name", *self.config.train.optimizer_options}
        stored = {table["name"]: table for table in saved["groups"]}
        groups = [
            table | {key: value for key, value in old.items() if key not in settled and key in table}
            for table in now["param_groups"]
            for old in (stored.get(table["name"], saved["groups"][0]),)  # groups may be cut otherwise now
        ]
        for table, before in zip(groups, now["param_groups"], strict=True):
            for key, value in before.items():
                if isinstance(value, tuple):
                    table[key] = tuple(table[key])
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        lay_out_state(self.optimizer)

    def _tell_changes_of_plan(self, before: list[str]) -> None:
        """Handlers that ran when the checkpoint was taken and do not now, and the other way round."""
        for line in difflib.ndiff(before, list(self.plan_lines)):
            if line.startswith(("- ", "+ ")):
                log.info("changed in the plan: %s", line)

    def _tell_changes_of_version(self, before: Mapping[str, int]) -> None:
        for name, plugin in self.bus.plugins.items():
            if before.get(name, plugin.version) != plugin.version:
                log.warning(
                    "plugin %s stored its state as version %d and is %d now", name, before[name], plugin.version
                )

    def _parameter_names(self) -> list[str]:
        return [name for group in self.groups for name in group.parameters]

    def _load_plugins(self, states: Mapping[str, Any]) -> None:
        for name, state in states.items():
            if name in self.bus.plugins:
                try:
                    self.bus.plugins[name].load_state_dict(state)
                except Exception as error:
                    raise CheckpointError(f"plugin {name} cannot take back its state: {error}") from error
            elif state:
                log.warning("the checkpoint holds a state of plugin %s, which this config does not name", name)
        for name in self.bus.plugins:
            if name not in states:
                log.warning("plugin %s is new in this run and starts without a state", name)


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
