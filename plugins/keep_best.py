"""Keep the checkpoint with the lowest validation loss, whatever comes after it."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from events import Plugin, PluginSettings, on, transform
from events.control import Control
from events.payloads import CheckpointLoaded, CheckpointSaved, RetentionContext, RunStart, ValidationEnd


class KeepBest(Plugin):
    """Save when a validation set's loss is lower than ever before, and let that checkpoint stay until a better one is saved."""

    class Settings(PluginSettings):
        set: str = Field("held_out", description="validation set that decides: held_out, or a name of validation.sets")

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        super().__init__(settings, name=name)
        self._control = Control()
        self._best: int | None = None
        """Step of the checkpoint that stays."""
        self._awaited: list[int] = []
        """Steps of losses that were the best, whose checkpoints were asked for and are not known to be whole."""

    @on("run.start")
    def begin(self, event: RunStart) -> None:
        self._control = event.control

    @on("validation.end")
    def look(self, event: ValidationEnd) -> None:
        """Raises ValueError for a set that is not measured. An interrupted measurement says nothing."""
        name = self.settings.set
        if not event.losses:
            return
        if name not in event.losses:
            raise ValueError(f"there is no validation set {name!r}; measured are {', '.join(event.losses)}")
        step, _ = event.best(name)
        if step == event.step and step > 0:
            self._awaited.append(step)
            self._control.save(reason=f"best loss on {name}", asker=self.name)

    @on("checkpoint.loaded")
    @on("checkpoint.saved")
    def remember(self, event: CheckpointSaved | CheckpointLoaded) -> None:
        """What was loaded had been saved, though nobody lived to hear of it."""
        if event.step in self._awaited:
            self._best = event.step
            self._awaited = [step for step in self._awaited if step > event.step]  # an older one was not written

    @transform("checkpoint.retention")
    def retain(self, going: tuple[int, ...], context: RetentionContext) -> tuple[int, ...]:
        best = context.step if context.step in self._awaited else self._best
        return tuple(step for step in going if step != best)

    def state_dict(self) -> Mapping[str, Any]:
        return {"best": self._best, "awaited": self._awaited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._best, self._awaited = state["best"], list(state["awaited"])
