"""Model families: one file each behind one Protocol. The trainer never learns a family's name."""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from events.payloads import AdapterNames, Conditioning, NoiseSchedule, Prompt

from ..config.tables import ExportTable, ModelTable
from ..errors import ConfigError
from .parts.folder import ModelFolder
from .parts.pipeline import PipelineFamily

if TYPE_CHECKING:
    from PIL import Image

    from ..data.samples import Tokenize

Modules = dict[str, nn.Module]


class DataSide(Protocol):
    """What preparing data needs of a model, without its weights."""

    @property
    def pixel_multiple(self) -> int:
        """Sides of training pictures are multiples of this."""

    @property
    def latent_scale(self) -> int:
        """Sides of pictures over those of their latents."""

    @property
    def token_limit(self) -> int:
        """How many tokens of a caption the model reads."""

    @property
    def tokenize(self) -> Tokenize:
        """Captions -> token ids (B, L) by text encoder; picklable."""

    def count_tokens(self, captions: Sequence[str]) -> list[int]:
        """How many tokens each caption has, whatever is read of it."""


class Family(DataSide, AdapterNames, Protocol):
    """What the trainer needs of a kind of model, over what preparing data needs. Modules are looked up by name at each use, so they may be wrapped."""

    modules: Modules
    scheduler: Any
    """The model's own of diffusers, whose noise schedule is trained on; exported."""
    max_tokens: int
    """How many tokens of a caption are read."""
    ignores_padding: bool
    """Whether the denoiser looks away from what `mask` of a conditioning leaves out, which can then be cut off."""

    @property
    def schedule(self) -> NoiseSchedule: ...

    @property
    def tokenizers(self) -> Mapping[str, Any]:
        """By the text encoder that they belong to."""

    @property
    def denoiser(self) -> str:
        """The name of the module that predicts; every other trained one is a text encoder."""

    @property
    def origin(self) -> str:
        """The folder or file that the model was read from."""

    @property
    def image_encoder(self) -> str:
        """The name of the module behind `encode_images`."""

    @property
    def text_encoders(self) -> tuple[str, ...]:
        """The names of the modules behind `encode_text`."""

    @property
    def tokenizer_identity(self) -> str:
        """A digest of what turns captions into token ids."""

    def use_scheduler(self, scheduler: Any) -> None:
        """Train on another scheduler's noise schedule, and export it."""

    def to(self, device: torch.device) -> None:
        """Move what is no module, such as the schedule; modules are moved by the trainer."""

    def encode_images(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) in [-1, 1] -> mean and deviation (B, C, h, w) of the scaled latents' posterior, float32."""

    def encode_text(self, tokens: Mapping[str, Tensor]) -> Conditioning:
        """What `tokenize` gave -> what the denoiser reads, with a gradient where a text encoder is trained."""

    def predict(self, noisy: Tensor, t: Tensor, conditioning: Conditioning, geometry: Tensor) -> Tensor:
        """The denoiser's output (B, C, h, w) for x_t, t (B,), what the captions say, and Batch.geometry (B, 6)."""

    def render(self, prompts: tuple[Prompt, ...]) -> list[Image.Image]:
        """Pictures by the stock pipeline over the live modules; all prompts share size, steps, guidance and scheduler."""

    def write(
        self, folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], headers: Mapping[str, dict[str, str]]
    ) -> None:
        """A folder that the stock pipeline loads, with these tensors and safetensors headers by module."""

    def single_file(self, tensors: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The same tensors as one file in the original layout has them, by its names.

        Raises ValueError where that layout has no place for one.
        """


def load_family(table: ModelTable, *, seed: int, max_tokens: int = 0) -> Family:
    """Load a model's modules in float32 on the CPU. Global random state stays as it is.

    Raises ConfigError for a model that no family knows, for modules it has not, and for incomplete weights.
    """
    quiet_libraries()
    family = find_family(table)(ModelFolder.of(table), max_tokens)
    family.load(table, seed)
    return family


def load_without_weights(table: ModelTable, max_tokens: int) -> Family:
    """As `load_family`, with modules that have shapes and no values, on torch's meta device.

    Raises ConfigError as `load_family`, for what configs and headers of files can tell.
    """
    quiet_libraries()
    family = find_family(table)(ModelFolder.of(table), max_tokens)
    family.load_empty(table)
    return family


def load_data_side(table: ModelTable, max_tokens: int) -> DataSide:
    """What preparing data needs of a model, without reading its weights. Raises ConfigError as `load_family`."""
    quiet_libraries()
    return find_family(table)(ModelFolder.of(table), max_tokens)


def find_family(table: ModelTable) -> type[PipelineFamily]:
    """The family, without reading any weights.

    Raises ConfigError for a model that no family knows and for modules that it has not.
    """
    kind = detect_family(table) if table.family == "auto" else _named(table.family)
    if problems := list(_module_problems(table, kind)):
        raise ConfigError("model", problems)
    return kind


def name_of(kind: type[PipelineFamily]) -> str:
    """The family's name in configs: that of its file."""
    return kind.__module__.rpartition(".")[2]


def trained_modules(table: ModelTable) -> tuple[str, ...]:
    """What `model.train` names, or else the denoiser."""
    return table.train or find_family(table).trainable[:1]


def require_exportable(table: ModelTable, export: ExportTable) -> None:
    """Raises ConfigError for a form of export that the family has not, before anything is trained."""
    kind = find_family(table)
    if export.single_file and export.model and not kind.single_files:
        found = f"export.single_file  a {name_of(kind)} model has no single-file layout; leave it false"
        raise ConfigError("config", [found])


def detect_family(table: ModelTable) -> type[PipelineFamily]:
    """The family of a diffusers folder by the pipeline class it names; of a single file, by its tensors or its base_config."""
    folder = ModelFolder.of(table)
    pipeline = folder.index().get("_class_name")
    for kind in known_families():
        if pipeline in kind.pipelines:
            return kind
    listed = ", ".join(f"{name_of(kind)} ({kind.pipelines[0]})" for kind in known_families())
    raise ConfigError("model", [f"{folder.key}  {folder.path} is a {pipeline}; the families are: {listed}"])


def known_families() -> tuple[type[PipelineFamily], ...]:
    """Every file beside this one is a family and names its class FAMILY."""
    names = sorted(found.name for found in pkgutil.iter_modules(__path__) if not found.ispkg)
    return tuple(importlib.import_module(f"{__name__}.{name}").FAMILY for name in names)


def _named(name: str) -> type[PipelineFamily]:
    known = {name_of(kind): kind for kind in known_families()}
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError("model", [f"model.family  {name!r} is none of auto, {', '.join(known)}{hint}"])
    return known[name]


def quiet_libraries() -> None:
    """Only errors from diffusers and transformers, through our own log, and no progress bars.

    What they warn of while loading, load_family checks and refuses. TRANSFORMERS_VERBOSITY and DIFFUSERS_VERBOSITY in
    the environment have the last word on the level.
    """
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for name, library in (("DIFFUSERS", diffusers_logging), ("TRANSFORMERS", transformers_logging)):
        if f"{name}_VERBOSITY" not in os.environ:
            library.set_verbosity_error()
        library.disable_default_handler()
        library.enable_propagation()
        library.disable_progress_bar()


def _module_problems(table: ModelTable, kind: type[PipelineFamily]) -> Iterator[str]:
    for key, names, known in (
        ("model.train", table.train, kind.trainable),
        ("model.from_scratch", table.from_scratch, tuple(kind.parts)),
    ):
        for name in names:
            if name not in known:
                near = get_close_matches(name, known, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                yield f"{key}  {name!r} is none of {', '.join(known)}{hint}"


def float_state(module: nn.Module, dtype: torch.dtype) -> dict[str, Tensor]:
    """Copies of a module's tensors on the CPU, floating ones in `dtype`; waits for the device.

    A tensor that two names share is kept under the first.
    """
    shared: set[tuple[int, torch.Size]] = set()
    state: dict[str, Tensor] = {}
    for name, tensor in module.state_dict().items():
        place = (tensor.data_ptr(), tensor.shape)
        if tensor.numel() and place in shared:
            continue
        shared.add(place)
        kind = dtype if tensor.is_floating_point() else tensor.dtype
        state[name] = tensor.detach().to("cpu", kind, copy=True).contiguous()
    return state
