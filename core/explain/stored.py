"""What the newest checkpoint of a config's run holds of each plugin. Tensors are not read, only their shapes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..config.tables import Config
from ..errors import CheckpointError
from ..log.redaction import Redactor
from .values import state_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """The states of plugins in one checkpoint."""

    step: int
    states: Mapping[str, Any]

    def of(self, plugin: str, redactor: Redactor) -> str:
        """In words."""
        if plugin not in self.states:
            return f"that of step {self.step} holds nothing of {plugin}, which is new then"
        return f"that of step {self.step} holds {state_text(self.states[plugin], redactor) or 'an empty state'}"


def newest_states(config: Config) -> Stored | None:
    """Of the newest checkpoint; None where there is none. Whether it is whole is for `run.py check` to say.

    Raises CheckpointError for one that cannot be read.
    """
    if not any(config.run.dir.glob(f"{config.run.name}*")):
        return None  # without torch, which what follows loads
    from ..checkpoint import manifest
    from ..checkpoint.contents import Checkpoint
    from ..checkpoint.folder import CheckpointFolder
    from ..resuming.packing import unpack
    from ..resuming.run_state import PLUGINS, STATE, in_words
    from ..run_folder.folder import CHECKPOINTS, current_folder

    newest = next(iter(CheckpointFolder(current_folder(config) / CHECKPOINTS, 1).existing()), None)
    if newest is None:
        return None
    checkpoint = Checkpoint(path=newest, step=manifest.step_of(newest))
    try:
        state = checkpoint.json(STATE)
    except OSError as error:
        raise CheckpointError(f"{newest} cannot be read: {error.strerror}") from None
    shapes = checkpoint.shapes(PLUGINS)
    with in_words(checkpoint):
        return Stored(
            step=checkpoint.step, states={name: unpack(tree, shapes) for name, tree in state["plugins"].items()}
        )
