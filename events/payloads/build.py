"""Payloads of the build signals: the parts that a step is composed of, and what a plugin may know while composing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from .data import Batch
from .run import RunInfo

if TYPE_CHECKING:
    import torch
    from torch import Tensor


NoiseFunction = Callable[["Tensor", "torch.Generator"], "Tensor"]
"""(latents (1, C, h, w), generator) -> noise of the same shape. Called for one sample at a time."""
TimestepFunction = Callable[[int, "torch.Generator"], "Tensor"]
"""(count, generator) -> t (count,)."""
ConditioningFunction = Callable[["Tensor", "torch.Generator"], "Tensor"]
"""(embeddings (1, L, D), generator) -> embeddings of the same shape."""
LossFunction = Callable[["Tensor", "Tensor", "Tensor", Batch], "Tensor"]
"""(prediction (B, C, h, w), target, t (B,), batch) -> loss of each sample (B,) float32."""
WeightFunction = Callable[["Tensor", Batch], "Tensor"]
"""(t (B,), batch) -> weight of each sample (B,) float32."""
LearningRateFunction = Callable[[int], float]
"""Steps taken so far -> factor on every group's learning rate."""


class NoiseSchedule(Protocol):
    """How much signal and noise a timestep holds."""

    prediction: str
    """`epsilon`, `v_prediction` or `sample`."""
    timesteps: int
    """Timesteps are 0 to `timesteps` - 1."""

    def snr(self, t: Tensor) -> Tensor:
        """Signal-to-noise ratio alpha^2 / sigma^2 of each t, (B,) float32."""

    def add_noise(self, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor: ...

    def target(self, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterGroup:
    """Parameters that share a learning rate."""

    name: str
    """Unique; its rate is recorded as `lr/<name>`."""
    parameters: Mapping[str, torch.nn.Parameter]
    """By their name in the checkpoint, `module.path.to.weight`."""
    learning_rate: float
    """At its peak; the schedule's factor scales it."""
    weight_decay: float
    """Decoupled, per step and unit of learning rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelContext:
    """While modules, groups and optimizer are put together."""

    run: RunInfo
    trained: tuple[str, ...]
    """Names of the modules that are trained."""
    steps: int
    """Optimizer steps of the whole run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepParts:
    """What a function of the step may be made from. Composing happens once; the step calls the result untouched."""

    run: RunInfo
    schedule: NoiseSchedule
    steps: int
    """Optimizer steps of the whole run."""
    device: torch.device
    """Where the step computes."""

    @property
    def prediction(self) -> str:
        return self.schedule.prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLoaded:
    """The family's modules as they come from disk, before adapters and freezing."""

    run: RunInfo
    modules: Mapping[str, torch.nn.Module]
    """By name: `unet`, `text_encoder`, `vae`, ..."""
    tokenizers: Mapping[str, Any]
    """By the text encoder that they belong to."""
    schedule: NoiseSchedule


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReady:
    """Everything is composed and prepared. torch hooks, also on the optimizer, may be registered here."""

    run: RunInfo
    modules: Mapping[str, torch.nn.Module]
    """By name, on the device and wrapped as they are trained."""
    optimizer: torch.optim.Optimizer
    groups: tuple[ParameterGroup, ...]
