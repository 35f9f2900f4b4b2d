"""A plugin for the tests of losses that are not finite on one rank."""

from typing import TYPE_CHECKING, Literal

from events import Plugin, PluginSettings, build, on
from events.payloads import Batch, LossFunction, StepParts, StepStart

if TYPE_CHECKING:
    from torch import Tensor


class SpoilOnRank(Plugin):
    """Makes the loss of some batches not finite, with gradients that are not finite either, or are what they were."""

    class Settings(PluginSettings):
        places: tuple[tuple[int, int], ...]
        """(epoch, step in the epoch)."""
        rank: int
        """On which; -1: wherever the batch is."""
        how: Literal["times nan", "plus infinity"] = "times nan"

    is_now = False

    @on("step.start", ranks="all")
    def look(self, event: StepStart) -> None:
        is_here = self.settings.rank in (-1, self.ranks.rank)
        self.is_now = is_here and (event.epoch, event.step_in_epoch) in self.settings.places

    @build("loss")
    def spoil(self, loss: LossFunction, parts: StepParts) -> LossFunction:
        def spoiled(prediction: "Tensor", target: "Tensor", t: "Tensor", batch: Batch) -> "Tensor":
            value = loss(prediction, target, t, batch)
            if not self.is_now:
                return value
            return value * float("nan") if self.settings.how == "times nan" else value + float("inf")

        return spoiled
