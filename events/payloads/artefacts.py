"""Payloads of what a run leaves behind: previews, checkpoints, exports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from .build import AdapterNames
from .items import Item
from .run import RunInfo

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One picture to render."""

    text: str
    negative: str = ""
    """What guidance leads away from."""
    seed: int = 0
    """Of the picture's noise."""
    width: int
    height: int
    """In pixels."""
    steps: int
    """Denoising steps."""
    guidance: float
    """Scale of classifier-free guidance; 1 or less is none."""
    scheduler: str = ""
    """The diffusers class that samples; empty for the family's own choice."""
    note: str = ""
    """Shown beside the prompt in grids, such as `held out`."""


class Sampler(Protocol):
    """Renders with the live modules, as the stock pipeline would."""

    @property
    def lockstep(self) -> bool:
        """Whether rendering is an exchange between processes, as where weights are divided among them.

        Each of them has to render the same prompts then, in a handler of all ranks that is collective.
        """

    def render(self, prompts: tuple[Prompt, ...]) -> list[Image.Image]:
        """One picture a prompt; waits for the device."""

    def encode(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> latents (B, C, h, w) on the CPU, the posterior's mean; waits for the device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewContext:
    """The prompts of one round of previews, before any is rendered."""

    step: int
    reason: str
    """As in `preview.start`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewStart:
    """Swap averaged weights in here and out in `preview.end`, which always follows."""

    run: RunInfo
    step: int
    reason: str
    """`start`, `every`, `end` or what a request said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewImage:
    """One picture of a round is rendered and saved."""

    run: RunInfo
    step: int
    prompt: Prompt
    path: Path
    """Where it was saved."""
    image: Image.Image
    """RGB; every handler is given the same, so change a copy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewEnd:
    """A round is over, also when rendering failed.

    With several processes each has rendered a part, and the files are there. The others wait for handlers of one of them.
    """

    run: RunInfo
    step: int
    reason: str
    """As in `preview.start`."""
    folder: Path
    """Of this round's pictures."""
    prompts: tuple[Prompt, ...]
    paths: tuple[Path, ...]
    """One picture a prompt; fewer when rendering failed."""
    items: Sequence[Item]
    """What the run trains on."""
    sampler: Sampler
    """Renders with the weights that the previews were rendered with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointStart:
    """All async handlers have finished; what plugins change now is still saved."""

    run: RunInfo
    step: int
    reason: str
    """`every`, `complete`, or why it was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionContext:
    """A new checkpoint is complete and older ones may go. The newest ones never do."""

    run: RunInfo
    step: int
    """Of the new one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSaved:
    """A checkpoint is complete on disk, under its final name."""

    run: RunInfo
    step: int
    reason: str
    """As in `checkpoint.start`."""
    path: Path
    """The checkpoint's folder."""
    files: tuple[str, ...]
    """Names of what lies in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointLoaded:
    """Weights, optimizer and the state of every plugin are as they were; also when a run goes back while it trains."""

    run: RunInfo
    step: int
    path: Path
    """The checkpoint's folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportContext:
    """One module on its way to the exported files."""

    run: RunInfo
    step: int
    module: str
    """`unet`, `text_encoder`, ..."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportStart:
    """Swap averaged weights in here and out in `export.end`, which always follows."""

    run: RunInfo
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportWrite:
    """An export is being put together: a handler may add files of its own, such as adapters, and sees what else is there."""

    run: RunInfo
    step: int
    folder: Path
    """Under a temporary name until the export is whole."""
    name: str
    """What the finished folder will be called."""
    modules: Mapping[str, torch.nn.Module]
    """By name, without wrappers; read only, on their device."""
    denoiser: str
    """The name of the module that predicts."""
    dtype: torch.dtype
    """Of exported weights."""
    header: Mapping[str, str]
    """Of the denoiser's file, for a safetensors header."""
    names: AdapterNames
    """How other programs call the layers of the modules."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportEnd:
    """An export is whole under its final name, or failed. With several processes every one is told once it is."""

    run: RunInfo
    step: int
    path: Path | None
    """None when it failed."""
