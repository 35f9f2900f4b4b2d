"""Payloads of the data: items, samples and batches on their way from disk to the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..control import Control
from ..randomness import Streams
from .run import RunInfo

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A picture with its caption, as the scan found it."""

    id: str
    """Data set name and relative path: stable, never a position."""
    path: Path
    caption: str
    width: int
    height: int
    """In pixels, after EXIF orientation."""
    weight: float = 1.0
    """How often an epoch shows it; the whole part always, the rest by a draw of each epoch."""
    loss_scale: float = 1.0
    extras: Mapping[str, Any] = field(default_factory=dict)
    """Plain values for plugins of your own; they travel to the workers with the item."""


class SampleKey(NamedTuple):
    """The place of one sample: which item, in which epoch, shown for the how-manieth time."""

    epoch: int
    item: int
    """Index into the run's tuple of items."""
    repeat: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DataContext:
    roots: tuple[str, ...]
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DataReady:
    """What the run will train on."""

    run: RunInfo
    items: tuple[Item, ...]
    buckets: Mapping[tuple[int, int], int]
    """Items by (width, height) in pixels."""
    problems: tuple[str, ...]
    """Files that were set aside, each with its reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanContext:
    """A plan must be a pure function of this: it is made again when a run resumes in the middle of an epoch."""

    epoch: int
    items: tuple[Item, ...]
    batch_size: int
    rng: Streams


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochStart:
    """Fired once for each epoch, also over a resume; `epoch` counts from 0."""

    run: RunInfo
    epoch: int
    step: int
    """Steps taken so far."""
    steps_in_epoch: int
    accumulate: int
    """Batches a step in this epoch."""
    control: Control


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochEnd:
    """Every batch of the epoch has been used. A run that ends within an epoch does not fire it."""

    run: RunInfo
    epoch: int
    step: int
    steps_in_epoch: int
    mean_loss: float | None
    """Over the steps whose metrics have reached the host."""
    control: Control


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSettings:
    """What the step needs to know of one sample beyond picture and caption."""

    loss_scale: float = 1.0
    extras: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleContext:
    """One sample on its way. The same in every process and after every resume."""

    epoch: int
    sample_id: str
    repeat: int
    path: Path
    caption: str
    """As the scan found it, before any plugin."""
    size: tuple[int, int]
    """(width, height) in pixels of the upright original."""
    target: tuple[int, int]
    """(width, height) in pixels of its bucket."""
    extras: Mapping[str, Any]
    rng: Streams
    """Random streams of this sample; a handler is given its own, keyed also by plugin and signal."""

    def for_handler(self, plugin: str, signal: str) -> SampleContext:
        return replace(self, rng=self.rng.of(plugin, signal))


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchContext:
    epoch: int
    sample_ids: tuple[str, ...]
    rng: Streams

    def for_handler(self, plugin: str, signal: str) -> BatchContext:
        return replace(self, rng=self.rng.of(plugin, signal))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceContext:
    """`batch.device` may only enqueue work: reading a value here would wait for the device."""

    epoch: int
    step: int
    """Steps taken so far; the batch is of the next."""
    round: int
    """Which of the step's batches, counted from 0."""
    rng: Streams

    def for_handler(self, plugin: str, signal: str) -> DeviceContext:
        return replace(self, rng=self.rng.of(plugin, signal))


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """B samples of one bucket. Tensors are on the CPU until `batch.device`, then on the training device."""

    pixels: Tensor
    """(B, 3, H, W) float32 in [-1, 1]."""
    tokens: Mapping[str, Tensor]
    """By text encoder, (B, L) int64."""
    weight: Tensor
    """(B,) float32: the sample's loss scale."""
    keys: tuple[SampleKey, ...]
    sample_ids: tuple[str, ...]
    captions: tuple[str, ...]
    """As the model reads them, after every plugin."""
    paths: tuple[str, ...]
    extras: tuple[Mapping[str, Any], ...]
    """By sample, what `sample.settings` put there."""

    @property
    def count(self) -> int:
        """How many samples share the step's mean."""
        return len(self.sample_ids)
