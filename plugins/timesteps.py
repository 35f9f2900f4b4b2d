"""Which timesteps are trained, and how often."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from events import Plugin, PluginSettings, build
from events.payloads import StepParts, TimestepFunction

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Kind = Literal["uniform", "logit_normal", "mode", "cubic"]


class Timesteps(Plugin):
    """Draw u in [0, 1) by a density, shift it, bring it into a range, and train the timestep at u, as floor(u T).

    logit_normal: u = sigmoid(mean + deviation n), n ~ N(0, 1) (Esser et al. 2024, arXiv:2403.03206, eq. 19).
    mode: u = 1 - v - scale (cos^2(pi v / 2) - 1 + v), v uniform (the same, eq. 20).
    cubic: u = 1 - v^3 (Mou et al. 2023, T2I-Adapter, arXiv:2302.08453), which favours high noise.
    shift: u <- shift u / (1 + (shift - 1) u) (Esser et al., eq. 23), above 1 for more noise. by_resolution multiplies it
    by e^mu, mu going linearly from 0.5 at 256 tokens of 2 x 2 latents to 1.15 at 4096, as Flux's pipeline samples.
    """

    class Settings(PluginSettings):
        kind: Kind = Field("uniform", description="the density")
        mean: float = Field(0.0, description="of logit_normal; above 0 favours high noise")
        deviation: float = Field(1.0, gt=0, description="of logit_normal")
        scale: float = Field(1.29, ge=-1, le=1.75, description="of mode; the paper's 1.29")
        shift: float = Field(1.0, gt=0, description="1 shifts nothing")
        by_resolution: bool = Field(False, description="shift large pictures further")
        low: float = Field(0.0, ge=0, lt=1, description="share of the timesteps below which none is trained")
        high: float = Field(1.0, gt=0, le=1, description="share of the timesteps above which none is trained")

        @model_validator(mode="after")
        def _ordered(self) -> Self:
            if self.low >= self.high:
                raise ValueError(f"low = {self.low} is not below high = {self.high}")
            return self

    @build("timesteps", priority=10)
    def draw(self, timesteps: TimestepFunction, parts: StepParts) -> TimestepFunction:
        settings, device, schedule = self.settings, parts.device, parts.schedule

        def drawn(latents: "Tensor", generator: "torch.Generator") -> "Tensor":
            shift = settings.shift * (resolution_shift(latents.shape) if settings.by_resolution else 1.0)
            u = shifted(density(settings, len(latents), generator, device), shift)
            return schedule.at(settings.low + (settings.high - settings.low) * u)

        return drawn


def density(settings: Timesteps.Settings, count: int, generator: "torch.Generator", device: "torch.device") -> "Tensor":
    """(count,) float32 in [0, 1]."""
    import torch

    if settings.kind == "logit_normal":
        normal = torch.randn((count,), generator=generator, device=device)
        return torch.sigmoid(settings.mean + settings.deviation * normal)
    v = torch.rand((count,), generator=generator, device=device)
    if settings.kind == "mode":
        return 1 - v - settings.scale * ((v * (math.pi / 2)).cos().square() - 1 + v)
    return 1 - v**3 if settings.kind == "cubic" else v


def resolution_shift(shape: Sequence[int]) -> float:
    """e^mu for latents (B, C, h, w)."""
    tokens = shape[2] * shape[3] / 4
    return math.exp(0.5 + (1.15 - 0.5) * (tokens - 256) / (4096 - 256))


def shifted(u: "Tensor", shift: float) -> "Tensor":
    """shift u / (1 + (shift - 1) u)."""
    return shift * u / (1 + (shift - 1) * u)
