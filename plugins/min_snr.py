"""Loss weights by signal-to-noise ratio, so that easy timesteps do not outweigh the others."""

from typing import TYPE_CHECKING

from pydantic import Field

from events import Plugin, PluginSettings, build
from events.payloads import Batch, StepParts, WeightFunction

if TYPE_CHECKING:
    from torch import Tensor


class MinSnr(Plugin):
    """Weigh each sample by the min-SNR-gamma of its timestep (Hang et al. 2023, arXiv:2303.09556, section 3.4)."""

    class Settings(PluginSettings):
        gamma: float = Field(
            5.0, gt=0, description="signal-to-noise ratio from which on the weight falls; the paper's 5"
        )

    @build("weight")
    def weigh(self, weight: WeightFunction, parts: StepParts) -> WeightFunction:
        """Raises ValueError for a prediction the paper has no weight for."""
        gamma, prediction, schedule = self.settings.gamma, parts.prediction, parts.schedule
        if prediction not in ("epsilon", "v_prediction", "sample"):
            raise ValueError(f"min-SNR weights are for epsilon, v_prediction and sample, not for {prediction}")

        def min_snr(t: "Tensor", batch: Batch) -> "Tensor":
            return weight(t, batch) * min_snr_weight(schedule.snr(t), gamma, prediction)

        return min_snr


def min_snr_weight(snr: "Tensor", gamma: float, prediction: str) -> "Tensor":
    """Weights (B,) of SNR (B,): min(SNR, gamma) on x_0, which a loss on the noise carries SNR times, and on v SNR + 1.

    So min(SNR, gamma) / SNR for epsilon, 1 where SNR is 0, and min(SNR, gamma) / (SNR + 1) for v.
    """
    if prediction == "epsilon":
        return (gamma / snr).clamp(max=1)
    kept = snr.clamp(max=gamma)
    return kept / (snr + 1) if prediction == "v_prediction" else kept
