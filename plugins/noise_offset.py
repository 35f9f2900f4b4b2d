"""Noise whose mean moves too, so that pictures can become darker or brighter than their training noise."""

from typing import TYPE_CHECKING

from pydantic import Field

from events import Plugin, PluginSettings, build
from events.payloads import NoiseFunction, StepParts

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class NoiseOffset(Plugin):
    """noise <- noise + strength * o with o ~ N(0, 1) of shape (B, C, 1, 1).

    N. Guttenberg 2023, "Diffusion with offset noise", https://www.crosslabs.org/blog/diffusion-with-offset-noise.
    """

    class Settings(PluginSettings):
        strength: float = Field(0.1, ge=0, description="deviation of the offset of each channel; the article's 0.1")

    @build("noise")
    def offset(self, noise: NoiseFunction, parts: StepParts) -> NoiseFunction:
        import torch

        strength: float = self.settings.strength

        def offset_noise(latents: "Tensor", generator: "torch.Generator") -> "Tensor":
            shift = torch.randn(
                (*latents.shape[:2], 1, 1), generator=generator, device=latents.device, dtype=latents.dtype
            )
            return noise(latents, generator) + strength * shift

        return offset_noise
