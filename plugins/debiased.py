"""Loss weights that undo what the choice of the prediction does to the loss of each timestep."""

from typing import TYPE_CHECKING

from pydantic import Field

from events import Plugin, PluginSettings, build
from events.payloads import Batch, StepParts, WeightFunction

if TYPE_CHECKING:
    from torch import Tensor


class Debiased(Plugin):
    """Weigh each sample by 1 / sqrt(SNR) for epsilon and 1 / (SNR + 1) for v.

    Yu et al. 2023, "Debias the training of diffusion models", arXiv:2310.08442, has the weight for epsilon;
    that for v is the field's. SNR is that of the schedule which is trained on.
    """

    class Settings(PluginSettings):
        most: float = Field(1000.0, gt=0, description="largest weight, which the noisiest timesteps of epsilon have")

    @build("weight")
    def weigh(self, weight: WeightFunction, parts: StepParts) -> WeightFunction:
        """Raises ValueError for another prediction."""
        most, prediction, schedule = self.settings.most, parts.prediction, parts.schedule
        if prediction not in ("epsilon", "v_prediction"):
            raise ValueError(f"debiased weights are for epsilon and v_prediction, not for {prediction}")

        def debiased(t: "Tensor", batch: Batch) -> "Tensor":
            return weight(t, batch) * debiased_weight(schedule.snr(t), prediction).clamp(max=most)

        return debiased


def debiased_weight(snr: "Tensor", prediction: str) -> "Tensor":
    """Weights (B,) of SNR (B,); infinite for epsilon where there is no signal."""
    return 1 / (snr + 1) if prediction == "v_prediction" else snr.rsqrt()
