"""More batches a step from epoch to epoch: large steps early on, and gradients with less noise later."""

from math import floor
from typing import Literal

from pydantic import Field, PositiveInt

from events import Plugin, PluginSettings, on
from events.control import Control
from events.payloads import CheckpointLoaded, EpochEnd, RunStart

SETTING = "train.accumulate"


class AccumulationRamp(Plugin):
    """Accumulate `start` batches a step in the first epoch, `end` in epoch number `epochs` and after it.

    In between the number rises evenly (`linear`) or by the same factor each epoch (`log`), rounded to a whole one. It
    takes the place of `train.accumulate`, and holds for whole epochs. Raising the batch acts as lowering the learning
    rate does (Smith et al. 2018, "Don't decay the learning rate, increase the batch size", arXiv:1711.00489), so a
    schedule that falls at the same time falls twice. `train.steps` counts optimizer steps as ever: an epoch has fewer
    of them as the ramp rises.
    """

    class Settings(PluginSettings):
        start: PositiveInt = Field(1, description="batches a step in the first epoch")
        end: PositiveInt = Field(8, description="batches a step once the ramp is over; below start it falls")
        epochs: int = Field(10, ge=2, description="epochs of the ramp, the first and the last of it included")
        course: Literal["linear", "log"] = Field(
            "linear", description="by the same number each epoch, or the same factor"
        )

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        super().__init__(settings, name=name)
        self._asked: int | None = None
        """What is in force from the next epoch on, as far as this session knows."""

    @on("run.start")
    def begin(self, event: RunStart) -> None:
        """A run that goes on has what is in force in its checkpoint."""
        if event.resumed_step == 0:
            self._ask(0, event.control)

    @on("checkpoint.loaded")
    def forget(self, event: CheckpointLoaded) -> None:
        """Also when a run goes back while it trains, to what was in force then."""
        self._asked = None

    @on("epoch.end")
    def go_on(self, event: EpochEnd) -> None:
        self._ask(event.epoch + 1, event.control)

    def _ask(self, epoch: int, control: Control) -> None:
        settings = self.settings
        rounds = accumulated(epoch, settings.start, settings.end, settings.epochs, settings.course)
        if rounds != self._asked:
            self._asked = rounds
            control.set(SETTING, rounds, asker=self.name)


def accumulated(epoch: int, start: int, end: int, epochs: int, course: str) -> int:
    """Batches a step in an epoch, counted from 0; halves are rounded up.

    >>> [accumulated(epoch, 1, 8, 4, "linear") for epoch in range(6)]
    [1, 3, 6, 8, 8, 8]
    >>> [accumulated(epoch, 1, 8, 4, "log") for epoch in range(6)]
    [1, 2, 4, 8, 8, 8]
    """
    share = min(epoch / (epochs - 1), 1.0)
    exact = start * (end / start) ** share if course == "log" else start + (end - start) * share
    return floor(exact + 0.5)
