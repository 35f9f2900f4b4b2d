"""Payloads of the items: what the scan found, and in which order an epoch shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ..randomness import Streams
from .read_only import freeze
from .run import RunInfo

Mask = Literal["", "alpha"] | Path
"""Where a picture's mask comes from: nowhere, its own alpha channel, or a file beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemSettings:
    """What the files beside a picture say about it. None leaves a choice to the plugin or key that makes it for all."""

    multiply: float = 1.0
    """How often an epoch shows it; the whole part always, the rest by a draw of each epoch."""
    loss_scale: float = 1.0
    """Factor on its loss."""
    cond_dropout: float | None = None
    """Probability that its caption becomes empty."""
    flip_p: float | None = None
    """Probability that it is mirrored."""
    shuffle_tags: bool | None = None
    """Whether its tags are shuffled."""
    keep_tags: int | None = None
    """Tags at the front that stay where they are when the rest is shuffled."""
    max_caption_length: int | None = None
    """In characters."""
    batch_id: str = ""
    """Items of one name are kept together in batches and steps."""
    rating: float | None = None
    """As the user gave it; nothing follows from it unless a plugin reads it."""
    no_upscale: bool | None = None
    """Never enlarge it: a small picture gets a bucket of its own size."""
    tag_weights: Mapping[str, float] = field(default_factory=dict)
    """By tag, for those that have one."""

    def __post_init__(self) -> None:
        freeze(self, "tag_weights")


PLAIN = ItemSettings()
"""Of a picture that nothing is said about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A picture with its caption and settings, as the scan found it."""

    id: str
    """Data set name and relative path: stable, never a position."""
    path: Path
    caption: str
    """Before any plugin: the main prompt, then the tags. With data.caption_lines = "choose", a line an alternative."""
    width: int
    height: int
    """In pixels, after EXIF orientation."""
    caption_from: str = ""
    """What gave the caption, such as `.txt`, `local.yaml`, `metadata.jsonl` or `file name`."""
    mask: Mask = ""
    """Where its mask comes from."""
    settings: ItemSettings = PLAIN
    """What the files beside it say."""
    extras: Mapping[str, Any] = field(default_factory=dict)
    """Plain values for plugins of your own; they travel to the workers with the item."""

    def __post_init__(self) -> None:
        freeze(self, "extras")


STAND_IN = 1 << 32
"""`SampleKey.variant` from which a picture stands in for one that cannot be read."""


class SampleKey(NamedTuple):
    """The place of one sample: which item, in which epoch, shown for the how-manieth time."""

    epoch: int
    item: int
    """Index into the run's items."""
    repeat: int
    variant: int = 0
    """0; 1, 2, ... for the copies that fill a short batch; plus STAND_IN * (n + 1) for what stands in for item n."""

    @property
    def is_copy(self) -> bool:
        """Whether it only fills a short batch. Copies share the weight of the sample they repeat."""
        return self.variant % STAND_IN > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DataContext:
    """What was scanned. A random choice among the items is drawn from `Streams(seed, ...)` of events.randomness."""

    roots: tuple[str, ...]
    """The scanned folders, as the config names them."""
    seed: int
    """The run's."""
    validation: str = ""
    """The name of the validation set whose items these are; empty for those that are trained on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataReady:
    """What the run will train on."""

    run: RunInfo
    items: Sequence[Item]
    """Made one by one as they are read; the run itself holds a compact table."""
    buckets: Mapping[tuple[int, int], int]
    """Items by (width, height) in pixels."""
    problems: tuple[str, ...]
    """Files that were set aside, each with its reason."""
    validation: Mapping[str, int]
    """Items by validation set."""

    def __post_init__(self) -> None:
        freeze(self, "buckets", "validation")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanContext:
    """A plan must be a pure function of this: it is made again when a run resumes in the middle of an epoch."""

    epoch: int
    items: Sequence[Item]
    """What the run trains on; the numbers in sample keys count them."""
    batch_size: int
    rng: Streams
    """Random streams of this epoch's plan; a handler is given its own, keyed also by plugin and signal."""

    def for_handler(self, plugin: str, signal: str) -> PlanContext:
        return replace(self, rng=self.rng.of(plugin, signal))
