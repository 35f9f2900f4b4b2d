"""What plugins put into a checkpoint, and what a run that goes on gives back to them.

The state of a plugin that the config no longer names is kept, and goes into every later checkpoint: it is there when
the plugin comes back.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from events.bus import Bus
from events.errors import PluginError
from events.plugin import Plugin

from ..errors import CheckpointError
from .packing import copy_to_host, pack

log = logging.getLogger("signalbox.train")
States = Mapping[str, Any]
"""State by plugin's name, as `state_dict` gave it."""


@dataclass(slots=True)
class PluginStates:
    """The states of one run's plugins."""

    bus: Bus
    _absent: dict[str, Any] = field(default_factory=dict)
    """States by the name of plugins that this config does not name."""
    _absent_versions: dict[str, int] = field(default_factory=dict)

    @property
    def versions(self) -> dict[str, int]:
        """By plugin: what the states that `collect` returns are written by."""
        return self._absent_versions | {name: plugin.version for name, plugin in self.bus.plugins.items()}

    def collect(self, copy: Callable[[Tensor], Tensor] = copy_to_host) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The states as JSON by plugin, and their tensors by path, each taken by `copy`.

        Raises PluginError naming the plugin whose `state_dict` fails or gives what cannot be stored.
        """
        trees: dict[str, Any] = {}
        tensors: dict[str, Tensor] = {}
        for name, state in self._absent.items():
            trees[name], own = pack(state, name, copy)
            tensors |= own
        for name, plugin in self.bus.plugins.items():
            trees[name], own = _packed_state(name, plugin, copy)
            tensors |= own
        return trees, tensors

    def tensors(self) -> dict[str, Tensor]:
        """Those that the states hold now, by path and not copied; of a plugin that has no state yet, none."""
        tensors: dict[str, Tensor] = {}
        for name, plugin in self.bus.plugins.items():
            try:
                tensors |= _packed_state(name, plugin, lambda tensor: tensor)[1]
            except PluginError as error:
                log.debug("plugin %s has no state before it is given one: %s", name, error)
        return tensors

    def give_back(self, states: States, versions: Mapping[str, int]) -> None:
        """Hand every plugin what it stored; say whose version changed, who is new, and who is absent.

        Raises CheckpointError naming the plugin that cannot take its state back.
        """
        for name, plugin in self.bus.plugins.items():
            if name in states:
                _tell_change_of_version(name, plugin, versions)
                load_state(name, plugin, states[name])
            else:
                log.warning("plugin %s is new in this run and starts without a state", name)
        for name, state in states.items():
            if state and name not in self.bus.plugins:
                self._keep(name, state, versions)

    def _keep(self, name: str, state: Any, versions: Mapping[str, int]) -> None:
        self._absent[name] = state
        if name in versions:
            self._absent_versions[name] = versions[name]
        log.warning(
            "the checkpoint holds a state of plugin %s, which this config does not name; it is kept in the next ones,"
            " for when the plugin comes back", name,
        )  # fmt: skip


def _packed_state(name: str, plugin: Plugin, copy: Callable[[Tensor], Tensor]) -> tuple[Any, dict[str, Tensor]]:
    try:
        state = plugin.state_dict()
        if not isinstance(state, Mapping):
            raise TypeError(f"state_dict() returned {type(state).__name__}, not a dict; is there a `return` missing?")
        return pack(state, name, copy)
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"the state of plugin {name} cannot be stored: {_in_words(error)}", plugin=name, signal="state_dict"
        ) from error


def load_state(name: str, plugin: Plugin, state: Any) -> None:
    """Raises CheckpointError naming the plugin that cannot take its state back."""
    try:
        plugin.load_state_dict(state)
    except (Exception, SystemExit) as error:
        raise CheckpointError(
            f"plugin {name} cannot take back its state: {_in_words(error)}\nmend the plugin; or take it out of the"
            " config, which keeps its state in the checkpoints; or start anew with --fresh"
        ) from error


def _tell_change_of_version(name: str, plugin: Plugin, versions: Mapping[str, int]) -> None:
    if versions.get(name, plugin.version) != plugin.version:
        log.warning("plugin %s stored its state as version %d and is %d now", name, versions[name], plugin.version)


def _in_words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
