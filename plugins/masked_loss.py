"""A loss that counts only where a picture's mask says so."""

from typing import TYPE_CHECKING

from pydantic import Field

from events import Plugin, PluginSettings, build
from events.payloads import Batch, LossFunction, StepParts

if TYPE_CHECKING:
    from torch import Tensor


class MaskedLoss(Plugin):
    """Weigh the error at each place of the latent by the mask, normalised so that each image counts the same.

    The mask m is area-averaged to the latent's size, raised to m' = floor + (1 - floor) m, and the loss of a sample is
    sum(m' e) / sum(m') of the squared error e. It composes with any loss of the difference between prediction and
    target: the difference is scaled by sqrt(m' / mean(m')) before that loss sees it, which for the squared error is
    exactly the formula. A picture without a mask counts everywhere.
    """

    reads = ("mask",)

    class Settings(PluginSettings):
        floor: float = Field(0.0, ge=0, le=1, description="weight of what the mask leaves out; 1 trains on everything")

    @build("loss")
    def mask(self, loss: LossFunction, parts: StepParts) -> LossFunction:
        floor = self.settings.floor

        def masked(prediction: "Tensor", target: "Tensor", t: "Tensor", batch: Batch) -> "Tensor":
            if batch.mask is None:
                return loss(prediction, target, t, batch)
            share = normalised_mask(batch.mask, floor).sqrt()
            return loss(target + (prediction - target) * share, target, t, batch)

        return masked


def normalised_mask(mask: "Tensor", floor: float) -> "Tensor":
    """(B, 1, h, w) in [0, 1] -> the same with a mean of 1 over each sample; a mask of nothing stays nothing."""
    raised = floor + (1 - floor) * mask
    return raised / raised.mean(dim=(1, 2, 3), keepdim=True).clamp(min=1e-6)
