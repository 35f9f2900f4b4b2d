"""A little more noise in what the model sees than in what it has to tell, as when it samples from its own errors."""

from typing import TYPE_CHECKING

from pydantic import Field

from events import Plugin, PluginSettings, build
from events.payloads import NoiseFunction, StepParts

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class InputPerturbation(Plugin):
    """Mix noise + strength * xi, xi ~ N(0, 1), into the latents; the target keeps the noise alone.

    Ning et al. 2023, "Input perturbation reduces exposure bias in diffusion models", arXiv:2301.11706, eq. 8.
    """

    class Settings(PluginSettings):
        strength: float = Field(0.1, ge=0, description="deviation of what is added to the noise; the paper's 0.1")

    @build("input_noise")
    def perturb(self, mixed: NoiseFunction, parts: StepParts) -> NoiseFunction:
        import torch

        strength: float = self.settings.strength

        def perturbed(noise: "Tensor", generator: "torch.Generator") -> "Tensor":
            more = torch.randn(noise.shape, generator=generator, device=noise.device, dtype=noise.dtype)
            return mixed(noise, generator) + strength * more

        return perturbed
