"""Payloads of the data: items, samples and batches on their way from disk to the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..control import Control
from ..randomness import Streams
from .read_only import freeze
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
    """Before any plugin."""
    width: int
    height: int
    """In pixels, after EXIF orientation."""
    weight: float = 1.0
    """How often an epoch shows it; the whole part always, the rest by a draw of each epoch."""
    loss_scale: float = 1.0
    """Factor on its loss."""
    extras: Mapping[str, Any] = field(default_factory=dict)
    """Plain values for plugins of your own; they travel to the workers with the item."""

    def __post_init__(self) -> None:
        freeze(self, "extras")


class SampleKey(NamedTuple):
    """The place of one sample: which item, in which epoch, shown for the how-manieth time."""

    epoch: int
    item: int
    """Index into the run's tuple of items."""
    repeat: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DataContext:
    """What was scanned. A random choice among the items is drawn from `Streams(seed, ...)` of events.randomness."""

    roots: tuple[str, ...]
    """The scanned folders, as the config names them."""
    seed: int
    """The run's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataReady:
    """What the run will train on."""

    run: RunInfo
    items: tuple[Item, ...]
    buckets: Mapping[tuple[int, int], int]
    """Items by (width, height) in pixels."""
    problems: tuple[str, ...]
    """Files that were set aside, each with its reason."""

    def __post_init__(self) -> None:
        freeze(self, "buckets")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanContext:
    """A plan must be a pure function of this: it is made again when a run resumes in the middle of an epoch."""

    epoch: int
    items: tuple[Item, ...]
    """What the run trains on; the numbers in sample keys count them."""
    batch_size: int
    rng: Streams
    """Random streams of this epoch's plan; a handler is given its own, keyed also by plugin and signal."""

    def for_handler(self, plugin: str, signal: str) -> PlanContext:
        return replace(self, rng=self.rng.of(plugin, signal))


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochStart:
    """Fired once for each epoch, also over a resume; `epoch` counts from 0."""

    run: RunInfo
    epoch: int
    step: int
    """Steps taken so far."""
    steps_in_epoch: int
    """How many it will take."""
    accumulate: int
    """Batches a step in this epoch."""
    control: Control


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochEnd:
    """Every batch of the epoch has been used. A run that ends within an epoch does not fire it."""

    run: RunInfo
    epoch: int
    step: int
    """Steps taken so far."""
    steps_in_epoch: int
    """How many the epoch took."""
    mean_loss: float | None
    """Over the steps whose metrics have reached the host."""
    control: Control


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSettings:
    """What the step needs to know of one sample beyond picture and caption."""

    loss_scale: float = 1.0
    """Factor on its loss."""
    extras: Mapping[str, Any] = field(default_factory=dict)
    """The item's; what a handler adds travels in `Batch.extras`."""

    def __post_init__(self) -> None:
        freeze(self, "extras")


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleContext:
    """One sample on its way. The same in every process and after every resume."""

    epoch: int
    sample_id: str
    """The item's id."""
    repeat: int
    """How many times the epoch has shown it before."""
    path: Path
    caption: str
    """As the scan found it, before any plugin."""
    size: tuple[int, int]
    """(width, height) in pixels of the upright original."""
    target: tuple[int, int]
    """(width, height) in pixels of its bucket."""
    extras: Mapping[str, Any]
    """The item's."""
    rng: Streams
    """Random streams of this sample; a handler is given its own, keyed also by plugin and signal."""

    def for_handler(self, plugin: str, signal: str) -> SampleContext:
        return replace(self, rng=self.rng.of(plugin, signal))


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchContext:
    """One batch on its way out of the loader."""

    epoch: int
    sample_ids: tuple[str, ...]
    rng: Streams
    """Random streams of this batch; a handler is given its own, keyed also by plugin and signal."""

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
    """Random streams of this batch; a handler is given its own. `.torch` draws on the CPU."""

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
    """The place of each sample in the run."""
    sample_ids: tuple[str, ...]
    captions: tuple[str, ...]
    """As the model reads them, after every plugin."""
    paths: tuple[str, ...]
    """The pictures' files."""
    extras: tuple[Mapping[str, Any], ...]
    """By sample, what `sample.settings` put there."""

    @property
    def count(self) -> int:
        """How many samples share the step's mean."""
        return len(self.sample_ids)
