"""Stable Diffusion 1.x: AutoencoderKL, one CLIP text encoder, UNet2DConditionModel (Rombach et al. 2022, 2112.10752)."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from events.payloads import Prompt

from ..config import ModelTable
from ..data.samples import Tokenize
from ..errors import ConfigError
from ..noise_schedule import DiscreteSchedule
from ..rng import seeded_initialisation
from . import Modules, freeze
from .clip import (
    ClipTokenize,
    load_text_encoder,
    load_tokenizer,
    long_standing_keys,
    new_text_encoder,
    write_tokenizer,
)  # fmt: skip

if TYPE_CHECKING:
    from PIL import Image

TEXT = "text_encoder"


class StableDiffusion:
    """The modules and how they work together."""

    denoiser = "unet"

    def __init__(self, modules: Modules, tokenizer: Any, scheduler: Any) -> None:
        self.modules = modules
        self.tokenizers = {TEXT: tokenizer}
        self.schedule = DiscreteSchedule(scheduler.alphas_cumprod.float(), scheduler.config.prediction_type)
        self._scheduler = scheduler
        self._configs: dict[str, Any] = {name: module.config for name, module in modules.items()}
        self._pipeline: Any = None
        vae_levels = len(self._configs["vae"].block_out_channels)
        unet_levels = len(self._configs["unet"].block_out_channels)
        self.pixel_multiple = 2 ** (vae_levels - 1) * 2 ** (unet_levels - 1)

    @property
    def tokenize(self) -> Tokenize:
        return ClipTokenize(TEXT, self.tokenizers[TEXT])

    def to(self, device: torch.device) -> None:
        self.schedule = self.schedule.to(device)

    def encode_images(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        vae, config = self.modules["vae"], self._configs["vae"]
        posterior = vae.encode(pixels.to(_dtype_of(vae))).latent_dist  # type: ignore[operator]  # nn.Module hides encode
        shift = getattr(config, "shift_factor", None) or 0.0
        mean, deviation = posterior.mean.float(), posterior.std.float()
        return (mean - shift) * config.scaling_factor, deviation * config.scaling_factor

    def encode_text(self, tokens: Mapping[str, Tensor]) -> Tensor:
        embeddings: Tensor = self.modules[TEXT](tokens[TEXT])[0]
        return embeddings

    def predict(self, noisy: Tensor, t: Tensor, embeddings: Tensor) -> Tensor:
        prediction: Tensor = self.modules["unet"](noisy, t, embeddings, return_dict=False)[0]
        return prediction

    def render(self, prompts: tuple[Prompt, ...]) -> "list[Image.Image]":
        first = prompts[0]
        generators = [torch.Generator().manual_seed(prompt.seed) for prompt in prompts]
        result = self.pipeline()(
            [prompt.text for prompt in prompts],
            negative_prompt=[prompt.negative for prompt in prompts],
            generator=generators,
            width=first.width,
            height=first.height,
            num_inference_steps=first.steps,
            guidance_scale=first.guidance,
        )
        pictures: list[Image.Image] = result.images
        return pictures

    def pipeline(self) -> Any:
        """The stock pipeline over the live modules, with DDIM (Song et al. 2020, 2010.02502)."""
        if self._pipeline is None:
            from diffusers import DDIMScheduler, StableDiffusionPipeline

            self._pipeline = StableDiffusionPipeline(
                vae=self.modules["vae"],
                text_encoder=self.modules[TEXT],
                tokenizer=self.tokenizers[TEXT],
                unet=self.modules["unet"],
                scheduler=DDIMScheduler.from_config(self._scheduler.config),
                safety_checker=None,
                feature_extractor=None,
                requires_safety_checker=False,
            )
            self._pipeline.set_progress_bar_config(disable=True)
        return self._pipeline

    def write(
        self, folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], headers: Mapping[str, dict[str, str]]
    ) -> None:
        from safetensors.torch import save_file

        self.pipeline().save_config(folder)
        for name, state in tensors.items():
            place = folder / name
            place.mkdir(parents=True, exist_ok=True)
            is_text = name == TEXT
            (self._configs[name].save_pretrained if is_text else self.modules[name].save_config)(place)  # type: ignore[operator]  # diffusers' and transformers' own
            file = "model.safetensors" if is_text else "diffusion_pytorch_model.safetensors"
            state = long_standing_keys(state) if is_text else dict(state)
            save_file(state, place / file, metadata={"format": "pt"} | headers[name])
        write_tokenizer(self.tokenizers[TEXT], folder / "tokenizer")
        self._scheduler.save_pretrained(folder / "scheduler")


def load(table: ModelTable, seed: int) -> StableDiffusion:
    """From a diffusers folder, or from a single file in the original layout with the configs of `model.base_config`.

    Raises ConfigError for a file without `model.base_config` and for incomplete weights.
    """
    modules, tokenizer, scheduler = _load_file(table) if table.path.is_file() else _load_folder(table, seed)
    in_channels = modules["unet"].config.in_channels  # type: ignore[union-attr]  # diffusers sets config
    latent_channels = modules["vae"].config.latent_channels  # type: ignore[union-attr]
    if in_channels != latent_channels:
        raise ConfigError(
            "model", [f"model.path  the unet takes {in_channels} channels, the vae gives {latent_channels}"]
        )
    return StableDiffusion({name: freeze(module.float()) for name, module in modules.items()}, tokenizer, scheduler)


def _load_folder(table: ModelTable, seed: int) -> tuple[Modules, Any, Any]:
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel

    path = table.path
    modules: Modules = {}
    for name, kind in (("unet", UNet2DConditionModel), ("vae", AutoencoderKL)):
        if name in table.from_scratch:
            with seeded_initialisation(seed, "initialise", name):
                modules[name] = kind.from_config(kind.load_config(path / name, local_files_only=True))
        else:
            modules[name] = _complete(kind, path / name)
    if TEXT in table.from_scratch:
        with seeded_initialisation(seed, "initialise", TEXT):
            modules[TEXT] = new_text_encoder(path / TEXT)
    else:
        modules[TEXT] = load_text_encoder(path / TEXT)
    scheduler = DDPMScheduler.from_pretrained(path / "scheduler", local_files_only=True)
    return modules, load_tokenizer(path / "tokenizer"), scheduler


def _complete(kind: Any, folder: Path) -> nn.Module:
    """A diffusers module from its folder; a weight without a value in the file is refused."""
    try:
        module, report = kind.from_pretrained(
            folder, torch_dtype=torch.float32, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except OSError as error:
        raise ConfigError(
            "model", [f"{folder}: {error}; name it in model.from_scratch to start from its config alone"]
        ) from None
    if report["missing_keys"]:
        missing = report["missing_keys"]
        raise ConfigError("model", [f"{folder}: no value for {len(missing)} weights, such as {missing[0]}"])
    loaded: nn.Module = module
    return loaded


def _load_file(table: ModelTable) -> tuple[Modules, Any, Any]:
    from diffusers import DDPMScheduler, StableDiffusionPipeline

    if table.base_config is None:
        raise ConfigError(
            "model", ["model.base_config  is needed beside a single file: a diffusers folder with its configs"]
        )
    pipeline = StableDiffusionPipeline.from_single_file(
        str(table.path), config=str(table.base_config), local_files_only=True, safety_checker=None
    )
    modules: Modules = {"unet": pipeline.unet, "vae": pipeline.vae, TEXT: pipeline.text_encoder}
    return modules, pipeline.tokenizer, DDPMScheduler.from_config(pipeline.scheduler.config)


def _dtype_of(module: nn.Module) -> torch.dtype:
    return next(module.parameters()).dtype
