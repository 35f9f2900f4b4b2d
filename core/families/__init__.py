"""Model families: one file each behind one Protocol. The trainer never learns a family's name."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
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


class Family(Protocol):
    """What the trainer needs of a kind of model. Modules are looked up by name at each use, so they may be wrapped."""

    modules: Modules
    tokenizers: Mapping[str, Any]
    schedule: NoiseSchedule
    denoiser: str
    """The name of the module that predicts; every other trained one is a text encoder."""
    pixel_multiple: int
    """Sides of training pictures are multiples of this."""

    @property
    def tokenize(self) -> Tokenize:
        """Captions -> token ids (B, L) by text encoder; picklable."""

    def to(self, device: torch.device) -> None:
        """Move what is no module, such as the schedule; modules are moved by the trainer."""

    def encode_images(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) in [-1, 1] -> mean and deviation (B, C, h, w) of the scaled latents' posterior, float32."""

    def encode_text(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """Token ids -> embeddings (B, L, D), with a gradient where a text encoder is trained."""

    def predict(self, noisy: Tensor, t: Tensor, embeddings: Tensor) -> Tensor:
        """The denoiser's output (B, C, h, w) for x_t, t (B,) and embeddings (B, L, D)."""

    def render(self, prompts: tuple[Prompt, ...]) -> list[Image.Image]:
        """Pictures by the stock pipeline over the live modules; all prompts share size, steps and guidance."""

    def write(
        self, folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], headers: Mapping[str, dict[str, str]]
    ) -> None:
        """A folder that the stock pipeline loads, with these tensors and safetensors headers by module."""


def load_family(table: ModelTable, *, seed: int) -> Family:
    """Load a model's modules in float32 on the CPU.

    Raises ConfigError for a model that no family knows, with what was found.
    """
    name = detect_family(table) if table.family == "auto" else table.family
    family = importlib.import_module(f"{__name__}.{name}")
    loaded: Family = family.load(table, seed)
    strangers = [module for module in (*table.train, *table.from_scratch) if module not in loaded.modules]
    if strangers:
        names = ", ".join(loaded.modules)
        raise ConfigError(
            "model", [f"model.train / model.from_scratch  {strangers[0]!r} is none of its modules: {names}"]
        )
    return loaded


def detect_family(table: ModelTable) -> str:
    """The family of a diffusers folder by the pipeline class it names; single files are Stable Diffusion 1.x."""
    if table.path.is_file():
        return "sd"
    index = table.path / "model_index.json"
    if not index.is_file():
        raise ConfigError(
            "model", [f"model.path  {table.path} holds no model_index.json, so it is no diffusers folder"]
        )
    pipeline = json.loads(index.read_text(encoding="utf-8")).get("_class_name")
    if pipeline in ("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline"):
        return "sd"
    raise ConfigError(
        "model", [f"model.path  {table.path} is a {pipeline}; the families are: sd (StableDiffusionPipeline)"]
    )


def freeze(module: nn.Module) -> nn.Module:
    """Without gradients and in evaluation mode."""
    return module.requires_grad_(False).eval()


def parameter_count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def float_state(module: nn.Module, dtype: torch.dtype) -> dict[str, Tensor]:
    """A module's tensors on the CPU, floating ones in `dtype`; waits for the device."""
    return {
        name: tensor.detach().to("cpu", dtype if tensor.is_floating_point() else tensor.dtype).contiguous()
        for name, tensor in module.state_dict().items()
    }
