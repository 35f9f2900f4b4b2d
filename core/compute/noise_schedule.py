"""How much signal and noise a timestep holds: in the discrete steps of DDPM, and along the straight line of a flow.

DDPM: x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise, with letters as in Ho et al. 2020 (arXiv:2006.11239, eq. 4): abar
is the cumulative product of 1 - beta. Flow: x_t = (1 - s) x_0 + s noise, s = t / T (Lipman et al. 2022,
arXiv:2210.02747; Liu et al. 2022, arXiv:2209.03003).
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

    def at(self, u: Tensor) -> Tensor:
        """floor(u T) for u in [0, 1], int64."""
        return (u * self.timesteps).long().clamp(max=self.timesteps - 1)

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


@dataclass(frozen=True, slots=True, eq=False)
class FlowSchedule:
    """Signal turns into noise along a straight line; timesteps are real numbers."""

    timesteps: int = 1000
    """T, the timestep of pure noise."""
    prediction: str = "flow"

    def to(self, device: torch.device) -> "FlowSchedule":
        return self

    def at(self, u: Tensor) -> Tensor:
        """u T for u in [0, 1], float32, at least 1: the first of the timesteps that samplers come to."""
        return (u * self.timesteps).clamp(min=1)

    def snr(self, t: Tensor) -> Tensor:
        """((1 - s) / s)^2, (B,)."""
        s = t / self.timesteps
        return ((1 - s) / s).square()

    def add_noise(self, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t = (1 - s) x_0 + s noise of x_0 `latents` (B, C, h, w)."""
        s = (t / self.timesteps).reshape(-1, *[1] * (latents.ndim - 1))
        return (1 - s) * latents + s * noise

    def target(self, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """The velocity dx_t / ds = noise - x_0."""
        return noise - latents
