"""Payloads of the build signals: the parts that a step is composed of, and what a plugin may know while composing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from .data import Batch
from .run import RunInfo

if TYPE_CHECKING:
    import torch
    from torch import Tensor


NoiseFunction = Callable[["Tensor", "torch.Generator"], "Tensor"]
"""(latents (1, C, h, w), generator) -> noise of the same shape. Called for one sample at a time."""
TimestepFunction = Callable[["Tensor", "torch.Generator"], "Tensor"]
"""(latents (1, C, h, w), generator) -> t (1,), as `NoiseSchedule.at` gives it. Called for one sample at a time."""
Conditioning = Mapping[str, "Tensor"]
"""What the text encoders make of captions: `embeddings` (B, L, D), and where the model has them `pooled` (B, P) and
`mask` (B, L), 1 where a token counts."""
ConditioningFunction = Callable[[Conditioning, "torch.Generator"], Conditioning]
"""(conditioning of one sample, generator) -> the same names and shapes."""
LossFunction = Callable[["Tensor", "Tensor", "Tensor", Batch], "Tensor"]
"""(prediction (B, C, h, w), target, t (B,), batch) -> loss of each sample (B,) float32."""
WeightFunction = Callable[["Tensor", Batch], "Tensor"]
"""(t (B,), batch) -> weight of each sample (B,) float32."""
LearningRateFunction = Callable[[int], float]
"""Steps taken so far -> factor on every group's learning rate."""


class NoiseSchedule(Protocol):
    """How much signal and noise a timestep holds."""

    @property
    def prediction(self) -> str:
        """`epsilon`, `v_prediction`, `sample` or `flow`."""

    @property
    def timesteps(self) -> int:
        """T: timesteps are 0 to T - 1, or for a flow real numbers from 1 to T."""

    def at(self, u: Tensor) -> Tensor:
        """The timestep (B,) that lies at the share u (B,) in [0, 1] of the way from signal to noise."""

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


class AdapterNames(Protocol):
    """How adapters of a family's modules are called in files that other programs read."""

    @property
    def architecture(self) -> str:
        """As in the model specification of Stability AI, such as `stable-diffusion-v1`."""

    def kohya(self, module: str, layers: Iterable[str]) -> Mapping[str, str]:
        """Paths of a module's layers -> their names in the files of sd-scripts; empty where those have none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelContext:
    """While scheduler, modules, groups and optimizer are put together."""

    run: RunInfo
    trained: tuple[str, ...]
    """Names of the modules that are trained."""
    steps: int
    """Optimizer steps of the whole run."""
    names: AdapterNames
    """How other programs call the layers of the modules."""


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
