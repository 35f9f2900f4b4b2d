"""Payloads of the data: epochs, samples and batches on their way from disk to the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..control import Control
from ..randomness import Streams
from .items import ItemSettings, SampleKey
from .read_only import freeze
from .run import RunInfo

if TYPE_CHECKING:
    from torch import Tensor


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
class Crop:
    """Which part of a picture is shown, and how it is turned over; its mask goes the same way.

    The part is stretched to the bucket's size, so one of another aspect than the bucket's is shown distorted.
    """

    left: float
    """In fractions of the picture's sides, from 0 to 1; the left edge of the part before it is mirrored."""
    top: float
    """Its upper edge."""
    right: float
    """Its right edge."""
    bottom: float
    """Its lower edge."""
    mirrored: bool = False
    """Left and right change places."""
    upside_down: bool = False
    """Top and bottom change places."""


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
    settings: ItemSettings
    """The item's."""
    extras: Mapping[str, Any]
    """The item's."""
    rng: Streams
    """Random streams of this sample; a handler is given its own, keyed also by plugin and signal."""

    def for_handler(self, plugin: str, signal: str) -> SampleContext:
        """Made field by field: `dataclasses.replace` takes twice as long, and each handler of each sample is given one."""
        return SampleContext(
            epoch=self.epoch, sample_id=self.sample_id, repeat=self.repeat, path=self.path, caption=self.caption,
            size=self.size, target=self.target, settings=self.settings, extras=self.extras,
            rng=self.rng.of(plugin, signal),
        )  # fmt: skip


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

    pixels: Tensor | None
    """(B, 3, H, W) float32 in [-1, 1]; None where `latents` come from the cache."""
    tokens: Mapping[str, Tensor]
    """By text encoder, (B, L) int64; empty where `embeddings` come from the cache."""
    weight: Tensor
    """(B,) float32: the sample's loss scale, shared by the copies that fill a short batch."""
    latents: Mapping[str, Tensor] = field(default_factory=dict)
    """From the cache: `mean` and `deviation` (B, C, h, w) float32 of the scaled latents' posterior; else empty."""
    embeddings: Mapping[str, Tensor] = field(default_factory=dict)
    """From the cache: what the text encoders make of the captions; else empty."""
    mask: Tensor | None = None
    """(B, 1, h, w) float32 in [0, 1], 1 where the loss counts, in the latents' size; None without masks."""
    geometry: Tensor
    """(B, 6) int64: upright original height and width, top and left of the crop, height and width of the bucket.

    In pixels; the crop's corner is that of the resized picture (Podell et al. 2023, 2307.01952, section 2.2).
    """
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
        """How many images share the step's mean; the copies that fill a short batch are none."""
        return sum(not key.is_copy for key in self.keys)
