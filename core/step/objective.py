"""The functions that a step is composed of. The trainer's own are the plainest; plugins build on them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
from events.checks import describe, like_tensor
from events.errors import PluginError
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
from events.signals import BuildSignal

from ..compute.rng import CORE


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
    """Hand each part through its build signal. Each function draws from a stream of its own.

    What plugins make of a part is held to its shape whenever it is called: a broadcast would go unnoticed otherwise.
    """
    noise, input_noise, timesteps = bus[BUILD_NOISE], bus[BUILD_INPUT_NOISE], bus[BUILD_TIMESTEPS]
    loss, weight = bus[BUILD_LOSS], bus[BUILD_WEIGHT]
    return Objective(
        noise=_like_input(noise, own_generator(gaussian_noise, CORE), parts),
        input_noise=_like_input(input_noise, as_drawn, parts),
        timesteps=_one_each(timesteps, own_generator(uniform_timesteps(parts), CORE), parts, 0),
        conditioning=bus[BUILD_CONDITIONING].compose(unchanged, parts),
        loss=_one_each(loss, mean_squared_error, parts, 2),
        weight=_one_each(weight, weight_of_batch, parts, 0),
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


def _like_input(signal: BuildSignal[Any, StepParts], own: NoiseFunction, parts: StepParts) -> NoiseFunction:
    """`own`, or what plugins make of it, whose result has shape, dtype and device of what it is given."""
    draw: NoiseFunction = signal.compose(own, parts)
    if draw is own:
        return own

    def checked(value: Tensor, generator: torch.Generator) -> Tensor:
        noise = draw(value, generator)
        wrong = like_tensor(value, noise)
        if wrong is not None:
            _refuse(signal, wrong)
        return noise

    return checked


def _one_each(
    signal: BuildSignal[Any, StepParts], own: Callable[..., Tensor], parts: StepParts, counted: int
) -> Callable[..., Tensor]:
    """`own`, or what plugins make of it, whose result has one number for each row of its argument number `counted`."""
    function: Callable[..., Tensor] = signal.compose(own, parts)
    if function is own:
        return own

    def checked(*arguments: Any) -> Tensor:
        numbers, count = function(*arguments), len(arguments[counted])
        if numbers.shape != (count,):
            _refuse(signal, f"expected a number for each of {count} samples, got {describe(numbers)}")
        return numbers

    return checked


def _refuse(signal: BuildSignal[Any, StepParts], wrong: str) -> None:
    plugin = signal.handlers[-1].plugin
    raise PluginError(f"plugin {plugin}, {signal.name}: {wrong}", plugin=plugin, signal=signal.name)
