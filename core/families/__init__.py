"""Model families: one file each behind one Protocol. The trainer never learns a family's name."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from events.payloads import NoiseSchedule, Prompt

from ..config import ModelTable
from ..errors import ConfigError

if TYPE_CHECKING:
    from PIL import Image

    from ..data.samples import Tokenize

Modules = dict[str, nn.Module]


class FamilyFile(Protocol):
    """What a family's file offers."""

    MODULES: tuple[str, ...]
    TRAINABLE: tuple[str, ...]
    """Those of them that model.train may name."""

    def load(self, table: ModelTable, seed: int) -> Family: ...

    def data_side(self, table: ModelTable, max_tokens: int) -> DataSide:
        """What preparing data needs of a model, from its configs and tokenizer alone."""


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


class Family(DataSide, Protocol):
    """What the trainer needs of a kind of model, over what preparing data needs. Modules are looked up by name at each use, so they may be wrapped."""

    modules: Modules
    tokenizers: Mapping[str, Any]
    schedule: NoiseSchedule
    denoiser: str
    """The name of the module that predicts; every other trained one is a text encoder."""
    image_encoder: str
    """The name of the module behind `encode_images`."""
    text_encoders: tuple[str, ...]
    """The names of the modules behind `encode_text`."""
    max_tokens: int
    """How many tokens of a caption are read, a multiple of 75; set before `tokenize` is asked for."""

    @property
    def tokenizer_identity(self) -> str:
        """A digest of what turns captions into token ids."""

    def to(self, device: torch.device) -> None:
        """Move what is no module, such as the schedule; modules are moved by the trainer."""

    def encode_images(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) in [-1, 1] -> mean and deviation (B, C, h, w) of the scaled latents' posterior, float32."""

    def encode_text(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """Token ids -> embeddings (B, L, D), also of chunks of 77 ids in a row, with a gradient where a text encoder is trained."""

    def predict(self, noisy: Tensor, t: Tensor, embeddings: Tensor) -> Tensor:
        """The denoiser's output (B, C, h, w) for x_t, t (B,) and embeddings (B, L, D)."""

    def render(self, prompts: tuple[Prompt, ...]) -> list[Image.Image]:
        """Pictures by the stock pipeline over the live modules; all prompts share size, steps and guidance."""

    def write(
        self, folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], headers: Mapping[str, dict[str, str]]
    ) -> None:
        """A folder that the stock pipeline loads, with these tensors and safetensors headers by module."""

    def single_file(self, tensors: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The same tensors as one file in the original layout has them, by its names.

        Raises ValueError where that layout has no place for one.
        """


def load_family(table: ModelTable, *, seed: int) -> Family:
    """Load a model's modules in float32 on the CPU. Global random state stays as it is.

    Raises ConfigError for a model that no family knows, for modules it has not, and for incomplete weights.
    """
    _, file = find_family(table)
    quiet_libraries()
    return file.load(table, seed)


def load_data_side(table: ModelTable, max_tokens: int) -> DataSide:
    """What preparing data needs of a model, without reading its weights. Raises ConfigError as `load_family`."""
    _, file = find_family(table)
    quiet_libraries()
    return file.data_side(table, max_tokens)


def find_family(table: ModelTable) -> tuple[str, FamilyFile]:
    """The family's name and file, without reading any weights.

    Raises ConfigError for a model that no family knows and for modules that it has not.
    """
    name = detect_family(table) if table.family == "auto" else table.family
    file: FamilyFile = importlib.import_module(f"{__name__}.{name}")
    if problems := list(_module_problems(table, file)):
        raise ConfigError("model", problems)
    return name, file


def detect_family(table: ModelTable) -> str:
    """The family of a diffusers folder by the pipeline class it names; of a single file, by that of its base_config."""
    key, folder = config_folder(table)
    pipeline = read_index(key, folder).get("_class_name")
    if pipeline in ("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline"):
        return "sd"
    raise ConfigError("model", [f"{key}  {folder} is a {pipeline}; the families are: sd (StableDiffusionPipeline)"])


def config_folder(table: ModelTable) -> tuple[str, Path]:
    """The diffusers folder that holds the model's configs, and the key of the config that names it."""
    if not table.path.is_file():
        return "model.path", table.path
    if table.base_config is None:
        raise ConfigError(
            "model", ["model.base_config  is needed beside a single file: a diffusers folder with its configs"]
        )
    return "model.base_config", table.base_config


def read_index(key: str, folder: Path) -> dict[str, Any]:
    """The folder's model_index.json. Raises ConfigError where there is none."""
    path = folder / "model_index.json"
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise ConfigError(
            "model", [f"{key}  {folder} holds no model_index.json, so it is no diffusers folder"]
        ) from None
    except ValueError as error:
        raise ConfigError("model", [f"{key}  {path} is no JSON: {error}"]) from None
    if not isinstance(index, dict):
        raise ConfigError("model", [f"{key}  {path} is no table"])
    return index


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


def _module_problems(table: ModelTable, file: FamilyFile) -> Iterator[str]:
    for key, names, known in (
        ("model.train", table.train, file.TRAINABLE),
        ("model.from_scratch", table.from_scratch, file.MODULES),
    ):
        for name in names:
            if name not in known:
                near = get_close_matches(name, known, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                yield f"{key}  {name!r} is none of {', '.join(known)}{hint}"


def freeze(module: nn.Module) -> nn.Module:
    """Without gradients and in evaluation mode."""
    return module.requires_grad_(False).eval()


def float_state(module: nn.Module, dtype: torch.dtype) -> dict[str, Tensor]:
    """Copies of a module's tensors on the CPU, floating ones in `dtype`; waits for the device."""
    return {
        name: tensor.detach().to("cpu", dtype if tensor.is_floating_point() else tensor.dtype, copy=True).contiguous()
        for name, tensor in module.state_dict().items()
    }
