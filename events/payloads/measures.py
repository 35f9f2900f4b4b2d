"""Payloads of caches and validation: what is measured or made beside training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from .read_only import freeze
from .run import RunInfo

Product = Literal["latents", "text"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheStart:
    """What a cache holds of what the run needs, before the rest is encoded.

    With several processes on every one of them, with the numbers of all; each machine has a cache of its own.
    """

    run: RunInfo
    product: Product
    """`latents` or `text`."""
    reused: int
    """Entries that are there."""
    missing: int
    """Those that are encoded now."""
    orphaned: int
    """Entries that this run does not need; other runs may."""
    why: Mapping[str, int]
    """Orphans by reason."""

    def __post_init__(self) -> None:
        freeze(self, "why")


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheEnd:
    """The pass is over; when the run was asked to stop meanwhile, before everything was encoded.

    With several processes each has encoded a part, and every one of them is told the numbers of all.
    """

    run: RunInfo
    product: Product
    """`latents` or `text`."""
    reused: int
    """Entries that were there."""
    encoded: int
    """Entries that were made."""
    unreadable: int
    """Pictures that could not be read; others stand in for them."""
    orphaned: int
    """Entries that this run does not need."""
    seconds: float
    """How long the pass took."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationStart:
    """The loss on the validation sets is about to be measured. Handlers may put other weights in until the end."""

    run: RunInfo
    step: int
    """Steps taken so far."""
    reason: str
    """`start`, `every`, `end`, or what a handler gave."""
    images: Mapping[str, int]
    """By validation set."""

    def __post_init__(self) -> None:
        freeze(self, "images")


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationEnd:
    """The loss has been measured; empty when it failed. With several processes every one has the same numbers."""

    run: RunInfo
    step: int
    epoch: int
    losses: Mapping[str, float]
    """Mean over the images of each validation set, with the noises and timesteps that each image always has."""
    history: Mapping[str, tuple[tuple[int, float], ...]]
    """By validation set, (step, loss) of every measurement so far, this one last."""
    seconds: float
    """How long it took."""

    def __post_init__(self) -> None:
        freeze(self, "losses", "history")

    def best(self, name: str) -> tuple[int, float]:
        """(step, loss) of a set's lowest loss so far, the earliest of equals."""
        return min(self.history[name], key=lambda measured: measured[1])
