"""The discrete noise schedule of DDPM-like models: x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise.

Letters as in Ho et al. 2020 (arXiv:2006.11239, eq. 4): abar is the cumulative product of 1 - beta.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Prediction = Literal["epsilon", "v_prediction", "sample"]


@dataclass(frozen=True, slots=True, eq=False)
class DiscreteSchedule:
    """Signal and noise at each of T timesteps, kept on the training device."""

    abar: Tensor
    """(T,) float32, falling from near 1."""
    prediction: Prediction

    @property
    def timesteps(self) -> int:
        return len(self.abar)

    def to(self, device: torch.device) -> "DiscreteSchedule":
        return DiscreteSchedule(self.abar.to(device), self.prediction)

    def snr(self, t: Tensor) -> Tensor:
        """alpha_t^2 / sigma_t^2 = abar_t / (1 - abar_t), (B,)."""
        abar = self.abar[t]
        return abar / (1 - abar)

    def add_noise(self, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t of x_0 `latents` (B, C, h, w)."""
        abar = self._abar_like(latents, t)
        return abar.sqrt() * latents + (1 - abar).sqrt() * noise

    def target(self, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """What the model predicts: the noise, x_0, or v = sqrt(abar) noise - sqrt(1 - abar) x_0.

        v from Salimans and Ho 2022 (arXiv:2202.00512, appendix D).
        """
        if self.prediction == "epsilon":
            return noise
        if self.prediction == "sample":
            return latents
        abar = self._abar_like(latents, t)
        return abar.sqrt() * noise - (1 - abar).sqrt() * latents

    def _abar_like(self, latents: Tensor, t: Tensor) -> Tensor:
        return self.abar[t].reshape(-1, *[1] * (latents.ndim - 1))
