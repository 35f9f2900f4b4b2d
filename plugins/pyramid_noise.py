"""Noise with coarse parts, so that composition is trained at high noise levels too."""

from typing import TYPE_CHECKING

from pydantic import Field

from events import Plugin, PluginSettings, build
from events.payloads import NoiseFunction, StepParts

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class PyramidNoise(Plugin):
    """noise <- normalised(noise + sum over i of discount^i enlarged(n_i)), n_i ~ N(0, 1) of sides / 2^i.

    J. Whitaker 2023, "Multi-resolution noise for diffusion model training",
    https://wandb.ai/johnowhitaker/multires_noise. Enlarged bilinearly; the sum is divided by its own deviation, so that
    the noise level of a timestep stays what the schedule says.
    """

    class Settings(PluginSettings):
        discount: float = Field(0.3, ge=0, lt=1, description="share of each coarser level in the one before")
        levels: int = Field(8, ge=1, description="most levels; they end where a side is one cell")

    @build("noise")
    def pyramid(self, noise: NoiseFunction, parts: StepParts) -> NoiseFunction:
        discount: float = self.settings.discount
        levels: int = self.settings.levels

        def pyramid_noise(latents: "Tensor", generator: "torch.Generator") -> "Tensor":
            fine = noise(latents, generator)
            return with_levels(fine, coarse_levels(fine, levels, generator), discount)

        return pyramid_noise


def coarse_levels(noise: "Tensor", levels: int, generator: "torch.Generator") -> "list[Tensor]":
    """Normal noise of half, a quarter, ... of the sides of (B, C, h, w), down to a side of one cell."""
    import torch

    found: list[Tensor] = []
    height, width = noise.shape[2:]
    while len(found) < levels and min(height, width) > 1:
        height, width = height // 2, width // 2
        shape = (*noise.shape[:2], height, width)
        found.append(torch.randn(shape, generator=generator, device=noise.device, dtype=noise.dtype))
    return found


def with_levels(noise: "Tensor", coarse: "list[Tensor]", discount: float) -> "Tensor":
    """(B, C, h, w) with the coarse levels added, each sample divided by its own deviation."""
    from torch.nn.functional import interpolate

    if not discount or not coarse:
        return noise
    total = noise
    for level, one in enumerate(coarse, start=1):
        total = total + discount**level * interpolate(one, size=noise.shape[2:], mode="bilinear", align_corners=False)
    return total / total.std(dim=(1, 2, 3), keepdim=True)
