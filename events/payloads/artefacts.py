"""Payloads of what a run leaves behind: previews, checkpoints, exports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .build import Sampler
from .data import Item
from .run import RunInfo

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One picture to render."""

    text: str
    negative: str = ""
    seed: int = 0
    width: int
    height: int
    steps: int
    guidance: float
    note: str = ""
    """Shown beside the prompt in grids, such as `held out`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewContext:
    step: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewStart:
    """Swap averaged weights in here and out in `preview.end`, which always follows."""

    run: RunInfo
    step: int
    reason: str
    """`start`, `every`, `end` or what a request said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewImage:
    run: RunInfo
    step: int
    prompt: Prompt
    path: Path
    image: Image.Image


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewEnd:
    run: RunInfo
    step: int
    reason: str
    folder: Path
    prompts: tuple[Prompt, ...]
    paths: tuple[Path, ...]
    """One picture a prompt; fewer when rendering failed."""
    items: tuple[Item, ...]
    sampler: Sampler
    """Renders with the weights that the previews were rendered with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointStart:
    """All async handlers have finished; what plugins change now is still saved."""

    run: RunInfo
    step: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSaved:
    run: RunInfo
    step: int
    reason: str
    path: Path
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointLoaded:
    """Weights, optimizer and the state of every plugin are as they were."""

    run: RunInfo
    step: int
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportContext:
    """One module on its way to the exported files."""

    run: RunInfo
    step: int
    module: str
    """`unet`, `text_encoder`, ..."""
