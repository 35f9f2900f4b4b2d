"""The functions that a step is composed of. The trainer's own are the plainest; plugins build on them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from events.bus import Bus
from events.catalogue import (
    BUILD_CONDITIONING,
    BUILD_INPUT_NOISE,
    BUILD_LOSS,
    BUILD_NOISE,
    BUILD_TIMESTEPS,
    BUILD_WEIGHT,
    own_generator,
)
from events.payloads import (
    Batch,
    Conditioning,
    ConditioningFunction,
    LossFunction,
    NoiseFunction,
    StepParts,
    TimestepFunction,
    WeightFunction,
)  # fmt: skip

from .rng import CORE


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What is minimised: composed once, then called by the step without any dispatch."""

    noise: NoiseFunction
    input_noise: NoiseFunction
    timesteps: TimestepFunction
    conditioning: ConditioningFunction
    loss: LossFunction
    weight: WeightFunction


def compose_objective(bus: Bus, parts: StepParts) -> Objective:
    """Hand each part through its build signal. Each function draws from a stream of its own."""
    return Objective(
        noise=bus[BUILD_NOISE].compose(own_generator(gaussian_noise, CORE), parts),
        input_noise=bus[BUILD_INPUT_NOISE].compose(as_drawn, parts),
        timesteps=bus[BUILD_TIMESTEPS].compose(own_generator(uniform_timesteps(parts), CORE), parts),
        conditioning=bus[BUILD_CONDITIONING].compose(unchanged, parts),
        loss=bus[BUILD_LOSS].compose(mean_squared_error, parts),
        weight=bus[BUILD_WEIGHT].compose(weight_of_batch, parts),
    )


def gaussian_noise(latents: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal noise of the latents' shape."""
    return torch.randn(latents.shape, generator=generator, device=latents.device, dtype=latents.dtype)


def uniform_timesteps(parts: StepParts) -> TimestepFunction:
    """t uniform over all of the schedule's timesteps."""
    schedule, device = parts.schedule, parts.device

    def uniform(latents: Tensor, generator: torch.Generator) -> Tensor:
        return schedule.at(torch.rand((len(latents),), generator=generator, device=device))

    return uniform


def as_drawn(noise: Tensor, generator: torch.Generator) -> Tensor:
    return noise


def unchanged(conditioning: Conditioning, generator: torch.Generator) -> Conditioning:
    return conditioning


def mean_squared_error(prediction: Tensor, target: Tensor, t: Tensor, batch: Batch) -> Tensor:
    """Mean over each sample's latent of (prediction - target)^2, (B,) float32."""
    return (prediction.float() - target.float()).square().flatten(1).mean(1)


def weight_of_batch(t: Tensor, batch: Batch) -> Tensor:
    """Each sample's own loss scale, (B,)."""
    return batch.weight
