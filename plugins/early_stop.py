"""Stop when the validation loss has not fallen for a while."""

from pydantic import Field, PositiveInt

from events import Plugin, PluginSettings, on
from events.control import Control
from events.payloads import RunStart, ValidationEnd


class EarlyStop(Plugin):
    """Stop the run after `patience` measurements in a row whose loss is not lower than the lowest before by `least`.

    Prechelt 1998, "Early stopping - but when?", criterion UP in its simplest form. With KeepBest the checkpoint of the
    lowest loss is still there.
    """

    class Settings(PluginSettings):
        set: str = Field("held_out", description="validation set that decides: held_out, or a name of validation.sets")
        patience: PositiveInt = Field(5, description="measurements without a lower loss after which the run stops")
        least: float = Field(0.0, ge=0, description="share of the loss by which it has to fall to count")

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        super().__init__(settings, name=name)
        self._control = Control()

    @on("run.start")
    def begin(self, event: RunStart) -> None:
        self._control = event.control

    @on("validation.end")
    def look(self, event: ValidationEnd) -> None:
        """Raises ValueError for a set that is not measured."""
        name = self.settings.set
        if not event.losses:
            return
        if name not in event.history:
            raise ValueError(f"there is no validation set {name!r}; measured are {', '.join(event.history)}")
        waited = measurements_without_a_fall([loss for _, loss in event.history[name]], self.settings.least)
        if waited >= self.settings.patience:
            step, loss = event.best(name)
            self._control.stop(f"the loss on {name} has not fallen since step {step} ({loss:.4f})", asker=self.name)


def measurements_without_a_fall(losses: list[float], least: float) -> int:
    """How many of the newest losses are not below the lowest before them by the share `least`.

    >>> measurements_without_a_fall([3.0, 2.0, 2.5, 1.999], 0.0), measurements_without_a_fall([3.0, 2.0, 2.5, 1.999], 0.1)
    (0, 2)
    """
    lowest, waited = losses[0], 0
    for loss in losses[1:]:
        fell = loss < lowest * (1 - least)
        waited = 0 if fell else waited + 1
        lowest = loss if fell else lowest
    return waited
