"""Payloads of one step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..control import Control
from .data import Batch
from .read_only import freeze
from .run import RunInfo

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveState:
    """The objects that training changes. Look, and change them only where you know what you do; reading waits."""

    modules: Mapping[str, torch.nn.Module]
    """By name, on the device and wrapped as they are trained."""
    optimizer: torch.optim.Optimizer
    measure: Callable[[Batch, int], Tensor]
    """(a batch on the device, repeat) -> the loss of each sample (B,) on the device, without gradient, weight or dropout.

    Noise and timestep follow from the sample's id and `repeat` alone, so that other captions or latents in its place can
    be compared with its own. It costs a forward pass, and waits for nothing.
    """
    lockstep: bool = False
    """Every forward pass is an exchange between processes, as where weights are divided among them: each has to make as
    many, in a handler of all ranks that is collective."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStart:
    """The batches are on the device and the first forward is next. `step` counts the step to be taken, from 1."""

    run: RunInfo
    step: int
    epoch: int
    step_in_epoch: int
    """Counted from 0."""
    steps_in_epoch: int
    """How many there are in this epoch, at the accumulation in force."""
    batches: tuple[Batch, ...]
    """One a round of accumulation; with several processes those of this one, which are none where it has none left."""
    live: LiveState
    control: Control

    @property
    def sample_ids(self) -> tuple[str, ...]:
        return tuple(sample_id for batch in self.batches for sample_id in batch.sample_ids)

    @property
    def captions(self) -> tuple[str, ...]:
        return tuple(caption for batch in self.batches for caption in batch.captions)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEnd:
    """Weights have moved. `step` counts the step just taken, so the first is 1. It holds no loss: that is on its way."""

    run: RunInfo
    step: int
    epoch: int
    step_in_epoch: int
    """Counted from 0."""
    steps_in_epoch: int
    """How many there are in this epoch, at the accumulation in force."""
    learning_rates: Mapping[str, float]
    """By parameter group, as used in this step."""
    batches: tuple[Batch, ...]
    """One a round of accumulation; with several processes those of this one, which are none where it had none left."""
    stand_ins: tuple[Batch, ...] = ()
    """Another process's, which this one went through after its own without any weight, since it had none left."""
    host_seconds: float
    """Wall time on the host since `step.start`; the device may still be working."""
    live: LiveState
    control: Control

    def __post_init__(self) -> None:
        freeze(self, "learning_rates")

    @property
    def sample_ids(self) -> tuple[str, ...]:
        return tuple(sample_id for batch in self.batches for sample_id in batch.sample_ids)
