"""Previews, checkpoints, validation or exports every so many epochs or minutes, beside those by steps."""

from time import monotonic
from typing import Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, model_validator

from events import Plugin, PluginSettings, on
from events.control import Control
from events.payloads import EpochEnd, RunStart, StepEnd

What = Literal["preview", "save", "evaluate", "export"]


class Rhythm(Plugin):
    """Ask the run for something after every `epochs` epochs, or when `minutes` have passed since it was last asked for.

    What is asked for at the end of an epoch is done after the first step of the next. Name the plugin twice, with
    names of their own, for two rhythms.
    """

    class Settings(PluginSettings):
        what: What = Field(description="preview, save, evaluate or export")
        epochs: NonNegativeInt = Field(0, description="ask after so many epochs; 0: not by epochs")
        minutes: PositiveFloat | None = Field(None, description="ask after so many minutes of this session")

        @model_validator(mode="after")
        def _has_one(self) -> Self:
            if not self.epochs and self.minutes is None:
                raise ValueError("set epochs or minutes")
            return self

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        super().__init__(settings, name=name)
        self._asked_at = 0.0

    @on("run.start")
    def begin(self, event: RunStart) -> None:
        self._asked_at = monotonic()

    @on("epoch.end")
    def count_epochs(self, event: EpochEnd) -> None:
        if self.settings.epochs and (event.epoch + 1) % self.settings.epochs == 0:
            self._ask(event.control, f"after epoch {event.epoch}")

    @on("step.end")
    def watch_the_clock(self, event: StepEnd) -> None:
        minutes: float | None = self.settings.minutes
        if minutes is not None and monotonic() - self._asked_at >= 60 * minutes:
            self._ask(event.control, f"every {minutes:g} minutes")

    def _ask(self, control: Control, reason: str) -> None:
        self._asked_at = monotonic()
        what: What = self.settings.what
        getattr(control, what)(reason=reason, asker=self.name)
