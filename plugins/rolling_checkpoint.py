"""Checkpoints every so many epochs, or several in each, of which the newest few stay."""

from collections.abc import Mapping
from fractions import Fraction
from math import floor
from typing import Any

from pydantic import Field, PositiveInt

from events import Plugin, PluginSettings, on, transform
from events.payloads import (
    CheckpointLoaded,
    CheckpointSaved,
    CheckpointStart,
    ControlApplied,
    RetentionContext,
    StepEnd,
)

FINEST = 10_000
"""A part of an epoch is taken as the nearest fraction with a denominator up to this, so that 0.1 is a tenth."""


class RollingCheckpoint(Plugin):
    """Save after every `every_epochs` epochs, and let the newest `keep` of these checkpoints stay.

    With `every_epochs = 0.5` one is saved at the half and at the end of each epoch, counted in steps: as soon as that
    share of the epoch's steps has been taken. What `checkpoint.keep` and `checkpoint.keep_every_steps` keep stays
    beside them, so the newest checkpoint of all is never removed, and an older one goes only once a newer one is whole.
    With several processes one is saved where they meet next, a step or two later.
    """

    class Settings(PluginSettings):
        every_epochs: float = Field(1.0, ge=0.001, description="epochs between two of them; 0.5 is twice an epoch")
        keep: PositiveInt = Field(
            3, description="how many of them stay, the newest; those of checkpoint.* stay besides"
        )

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        super().__init__(settings, name=name)
        self._marks: int | None = None
        """How many times a checkpoint has been due; None before the first step that this plugin has seen."""
        self._saved: list[int] = []
        """Steps of its checkpoints that are whole, the newest `keep` of them, in order."""
        self._awaited: list[int] = []
        """Steps of those that were begun and are not known to be whole; one that is written may be behind the next."""
        self._is_due = False
        """One was asked for that has not been begun."""
        self._is_next = False
        """It is the next that is begun."""
        self._was_due = False
        """When the run was stopped, which forgets what was asked for."""

    @on("step.end")
    def ask_when_due(self, event: StepEnd) -> None:
        every = Fraction(self.settings.every_epochs).limit_denominator(FINEST)
        marks = floor((event.epoch + Fraction(event.step_in_epoch + 1, event.steps_in_epoch)) / every)
        if self._marks is None:
            self._marks = floor((event.epoch + Fraction(event.step_in_epoch, event.steps_in_epoch)) / every)
        if marks > self._marks or self._was_due:
            self._is_due, self._was_due = True, False
            event.control.save(reason=f"every {self.settings.every_epochs:g} epochs", asker=self.name)
        self._marks = marks

    @on("control.applied")
    def expect(self, event: ControlApplied) -> None:
        """With several processes that is not the boundary at which it was asked for."""
        self._is_next = self._is_next or (event.kind == "save" and event.asker == self.name)

    @on("checkpoint.start")
    def await_it(self, event: CheckpointStart) -> None:
        if self._is_next:
            self._awaited.append(event.step)
            self._is_due = self._is_next = False

    @on("checkpoint.loaded")
    @on("checkpoint.saved")
    def remember(self, event: CheckpointSaved | CheckpointLoaded) -> None:
        """What was loaded had been saved, though nobody lived to hear of it."""
        if event.step in self._awaited:
            self._saved = [*self._saved, event.step][-self.settings.keep :]
            self._awaited = [step for step in self._awaited if step > event.step]  # an older one was not written

    @transform("checkpoint.retention")
    def retain(self, going: tuple[int, ...], context: RetentionContext) -> tuple[int, ...]:
        """The new one is one of its own where it was asked for, and takes the place of the oldest."""
        own = [*self._saved, context.step] if context.step in self._awaited else self._saved
        kept = own[-self.settings.keep :]
        return tuple(step for step in going if step not in kept)

    def state_dict(self) -> Mapping[str, Any]:
        return {"marks": self._marks, "saved": self._saved, "awaited": self._awaited, "is_due": self._is_due}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._marks, self._saved, self._awaited = state["marks"], list(state["saved"]), list(state["awaited"])
        self._was_due, self._is_due, self._is_next = state.get("is_due", False), False, False
