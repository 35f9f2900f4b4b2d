"""Stable Diffusion 1.x: AutoencoderKL, one CLIP text encoder, UNet2DConditionModel (Rombach et al. 2022, 2112.10752)."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import torch
from torch import Tensor, nn

from events.payloads import Prompt

from ..config import ModelTable
from ..data.samples import Tokenize
from ..errors import ConfigError
from ..noise_schedule import DiscreteSchedule, Prediction
from ..rng import seeded_initialisation
from . import Modules, config_folder, freeze, read_index
from .clip import (
    CHUNK,
    ClipTokenize,
    count_tokens,
    encode_chunks,
    load_text_encoder,
    load_tokenizer,
    long_standing_keys,
    new_text_encoder,
    tokenizer_identity,
    write_text_config,
    write_tokenizer,
)  # fmt: skip
from .ldm_layout import NAMES, to_single_file
from .weights import from_config, from_folder, from_original, reading

if TYPE_CHECKING:
    from PIL import Image

UNET, VAE, TEXT = MODULES = ("unet", "vae", "text_encoder")
TRAINABLE = (UNET, TEXT)
KEPT = ("_class_name", "_diffusers_version")
"""Of what diffusers adds to a config, what it reads again."""


class StableDiffusionData:
    """What preparing data needs of the model: sizes and tokens."""

    def __init__(self, configs: Mapping[str, Any], tokenizer: Any, max_tokens: int = CHUNK) -> None:
        """`configs` are those of the modules, by name."""
        self.tokenizers = {TEXT: tokenizer}
        self.latent_scale = 2 ** (len(configs[VAE]["block_out_channels"]) - 1)
        self.pixel_multiple = self.latent_scale * 2 ** (len(configs[UNET]["block_out_channels"]) - 1)
        self.max_tokens = max_tokens

    @property
    def tokenize(self) -> Tokenize:
        return ClipTokenize(TEXT, self.tokenizers[TEXT], self.max_tokens)

    @property
    def token_limit(self) -> int:
        return self.max_tokens // CHUNK * (int(self.tokenizers[TEXT].model_max_length) - 2)

    @property
    def tokenizer_identity(self) -> str:
        return tokenizer_identity(self.tokenizers[TEXT])

    def count_tokens(self, captions: Sequence[str]) -> list[int]:
        return count_tokens(self.tokenizers[TEXT], captions)


class StableDiffusion(StableDiffusionData):
    """The modules and how they work together."""

    denoiser = UNET
    image_encoder = VAE
    text_encoders = (TEXT,)

    def __init__(self, modules: Modules, tokenizer: Any, scheduler: Any) -> None:
        """`scheduler` is the model's own: its noise schedule is trained on and its class and config are exported."""
        self._configs: dict[str, Any] = {name: module.config for name, module in modules.items()}
        super().__init__({name: self._configs[name] for name in (VAE, UNET)}, tokenizer)
        self.modules = modules
        self.schedule = noise_schedule(scheduler)
        self._scheduler = scheduler

    def to(self, device: torch.device) -> None:
        self.schedule = self.schedule.to(device)

    def encode_images(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        vae, config = self.modules[VAE], self._configs[VAE]
        posterior = vae.encode(pixels.to(_dtype_of(vae))).latent_dist  # type: ignore[operator]  # nn.Module hides encode
        shift = getattr(config, "shift_factor", None) or 0.0
        mean, deviation = posterior.mean.float(), posterior.std.float()
        return (mean - shift) * config.scaling_factor, deviation * config.scaling_factor

    def encode_text(self, tokens: Mapping[str, Tensor]) -> Tensor:
        return encode_chunks(self.modules[TEXT], tokens[TEXT], self.tokenizers[TEXT].model_max_length)

    def predict(self, noisy: Tensor, t: Tensor, embeddings: Tensor) -> Tensor:
        prediction: Tensor = self.modules[UNET](noisy, t, embeddings, return_dict=False)[0]
        return prediction

    def render(self, prompts: tuple[Prompt, ...]) -> "list[Image.Image]":
        first = prompts[0]
        generators = [torch.Generator().manual_seed(prompt.seed) for prompt in prompts]
        result = self.pipeline()(
            **self._conditions(prompts),
            generator=generators,
            width=first.width,
            height=first.height,
            num_inference_steps=first.steps,
            guidance_scale=first.guidance,
        )
        pictures: list[Image.Image] = result.images
        return pictures

    def _conditions(self, prompts: tuple[Prompt, ...]) -> dict[str, Any]:
        """What the pipeline is asked for: words, or where more tokens are read than it would, their embeddings."""
        words = {"": [prompt.text for prompt in prompts], "negative_": [prompt.negative for prompt in prompts]}
        if self.max_tokens <= CHUNK:
            return {f"{kind}prompt": texts for kind, texts in words.items()}
        device = next(self.modules[TEXT].parameters()).device
        ids = {kind: self.tokenize(texts)[TEXT].to(device) for kind, texts in words.items()}
        return {f"{kind}prompt_embeds": self.encode_text({TEXT: one}) for kind, one in ids.items()}

    def pipeline(self) -> Any:
        """The stock pipeline over the modules as they are now, with DDIM (Song et al. 2020, 2010.02502).

        Clipping is for pictures and would cut latents; the pipeline itself insists on both settings, with a warning.
        """
        from diffusers import DDIMScheduler, StableDiffusionPipeline

        pipeline = StableDiffusionPipeline(
            vae=self.modules[VAE],
            text_encoder=self.modules[TEXT],
            tokenizer=self.tokenizers[TEXT],
            unet=self.modules[UNET],
            scheduler=DDIMScheduler.from_config(self._scheduler.config, clip_sample=False, steps_offset=1),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def write(
        self, folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], headers: Mapping[str, dict[str, str]]
    ) -> None:
        from safetensors.torch import save_file

        for name, state in tensors.items():
            place = folder / name
            place.mkdir(parents=True, exist_ok=True)
            metadata = {"format": "pt"} | headers[name]
            if name == TEXT:
                write_text_config(self._configs[name], place)
                save_file(long_standing_keys(state), place / "model.safetensors", metadata=metadata)
            else:
                _write_json(place / "config.json", _public(self._configs[name]))
                save_file(dict(state), place / "diffusion_pytorch_model.safetensors", metadata=metadata)
        write_tokenizer(self.tokenizers[TEXT], folder / "tokenizer")
        self._scheduler.save_pretrained(folder / "scheduler")
        _write_json(folder / "model_index.json", self._index())

    def single_file(self, tensors: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
        return {name: tensor.contiguous() for name, tensor in to_single_file(tensors).items()}

    def _index(self) -> dict[str, Any]:
        """What the stock pipeline is put together from: the model's own scheduler, and no safety checker."""
        import diffusers

        nothing = [None, None]
        return {
            "_class_name": "StableDiffusionPipeline",
            "_diffusers_version": diffusers.__version__,
            "feature_extractor": nothing,
            "image_encoder": nothing,
            "requires_safety_checker": False,
            "safety_checker": nothing,
            "scheduler": ["diffusers", type(self._scheduler).__name__],
            TEXT: ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            UNET: ["diffusers", "UNet2DConditionModel"],
            VAE: ["diffusers", "AutoencoderKL"],
        }


def load(table: ModelTable, seed: int) -> StableDiffusion:
    """From a diffusers folder, or from a single file in the original layout with the configs of `model.base_config`.

    Raises ConfigError for what is missing or does not fit, before weights are read where that can be seen.
    """
    key, folder = config_folder(table)
    _require_parts(key, folder)
    _require_plain_channels(key, folder)
    scheduler = _load_scheduler(key, folder)
    modules = {name: freeze(_load_module(table, folder, name, seed)) for name in MODULES}
    with reading(folder / "tokenizer"):
        tokenizer = load_tokenizer(folder / "tokenizer")
    return StableDiffusion(modules, tokenizer, scheduler)


def data_side(table: ModelTable, max_tokens: int) -> StableDiffusionData:
    """Sizes and tokens, from the configs alone. Raises ConfigError for what is missing."""
    key, folder = config_folder(table)
    _require_parts(key, folder)
    configs = {name: _read_json(folder / name / "config.json") for name in (VAE, UNET)}
    with reading(folder / "tokenizer"):
        return StableDiffusionData(configs, load_tokenizer(folder / "tokenizer"), max_tokens)


def noise_schedule(scheduler: Any) -> DiscreteSchedule:
    """Of a scheduler's config, by the class that knows every setting of it, the zero-terminal rescale too."""
    from diffusers import DDPMScheduler

    training = DDPMScheduler.from_config(scheduler.config)
    return DiscreteSchedule(training.alphas_cumprod.float(), training.config.prediction_type)


def _load_module(table: ModelTable, folder: Path, name: str, seed: int) -> nn.Module:
    if name in table.from_scratch:
        with seeded_initialisation(seed, "initialise", name):
            return _build(folder, name)
    if table.path.is_file():
        return from_original(table.path, _build_empty(folder, name), NAMES[name])
    return load_text_encoder(folder / name) if name == TEXT else from_folder(_kind(name), folder / name)


def _build(folder: Path, name: str) -> nn.Module:
    return new_text_encoder(folder / name) if name == TEXT else from_config(_kind(name), folder / name)


def _build_empty(folder: Path, name: str) -> nn.Module:
    """To be filled from a file; only CLIP has a buffer that no file holds."""
    if name == TEXT:
        with seeded_initialisation("overwritten"):
            return _build(folder, name)
    with torch.device("meta"):
        return _build(folder, name)


def _kind(name: str) -> Any:
    from diffusers import AutoencoderKL, UNet2DConditionModel

    return {UNET: UNet2DConditionModel, VAE: AutoencoderKL}[name]


def _load_scheduler(key: str, folder: Path) -> Any:
    """The model's own scheduler, of the class that the stock pipeline would make.

    Raises ConfigError for one that is no diffusion in discrete steps, such as flow matching.
    """
    import diffusers

    name = read_index(key, folder).get("scheduler", [None, None])[1]
    kind = getattr(diffusers, str(name), None)
    if kind is None:
        raise ConfigError(
            "model", [f"{key}  {folder}/model_index.json names the scheduler {name}, unknown to diffusers"]
        )
    with reading(folder / "scheduler"):
        scheduler = kind.from_pretrained(folder / "scheduler", local_files_only=True)
    prediction = scheduler.config.get("prediction_type")
    if not hasattr(scheduler, "alphas_cumprod") or prediction not in get_args(Prediction):
        found = f"{name} predicting {prediction}" if prediction else name
        raise ConfigError(
            "model", [f"{key}  {folder}/scheduler is a {found}; trained are {', '.join(get_args(Prediction))}"]
        )
    return scheduler


def _require_parts(key: str, folder: Path) -> None:
    parts = [*(f"{name}/config.json" for name in MODULES), "scheduler/scheduler_config.json", "tokenizer"]
    missing = [part for part in parts if not (folder / part).exists()]
    if missing:
        raise ConfigError("model", [f"{key}  {folder} holds no {part}" for part in missing])


def _require_plain_channels(key: str, folder: Path) -> None:
    """The UNet sees noisy latents and nothing beside them."""
    unet, vae = (_read_json(folder / name / "config.json") for name in (UNET, VAE))
    takes, gives = unet.get("in_channels", 4), vae.get("latent_channels", 4)
    if takes != gives:
        beside = ": an inpainting model, which this trainer cannot train yet" if takes == 2 * gives + 1 else ""
        raise ConfigError("model", [f"{key}  {folder}: the unet takes {takes} channels, the vae gives {gives}{beside}"])


def _read_json(path: Path) -> dict[str, Any]:
    with reading(path):
        table: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return table


def _write_json(path: Path, table: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(table, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _public(config: Mapping[str, Any]) -> dict[str, Any]:
    """A diffusers config without what it remembers of this machine, such as the folder it came from."""
    return {key: value for key, value in config.items() if not key.startswith("_") or key in KEPT}


def _dtype_of(module: nn.Module) -> torch.dtype:
    return next(module.parameters()).dtype
