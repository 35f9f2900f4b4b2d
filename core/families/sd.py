"""Stable Diffusion 1.x and 2.x: AutoencoderKL, one CLIP text encoder, UNet2DConditionModel (Rombach et al. 2022, 2112.10752).

2.x has a wider text encoder, and for 768 pixels predicts v; both follow from the folder's configs.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from events.payloads import Conditioning, Prompt

from ..data.samples import Tokenize
from ..errors import ConfigError
from .parts.clip import CHUNK, ClipTokenize, clip_tokens, encode_chunks
from .parts.folder import ModelFolder
from .parts.ldm_layout import NAMES, to_single_file
from .parts.pipeline import PipelineFamily
from .parts.scheduler import sampler_of

UNET, VAE, TEXT = "unet", "vae", "text_encoder"


class StableDiffusion(PipelineFamily):
    """The modules and how they work together."""

    pipelines = ("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline")
    parts = {UNET: "UNet2DConditionModel", VAE: "AutoencoderKL", TEXT: "CLIPTextModel"}
    tokenizer_folders = {TEXT: "tokenizer"}
    denoiser = UNET
    trainable = (UNET, TEXT)
    predictions = ("epsilon", "v_prediction", "sample")
    single_file_names = NAMES
    nothing = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}

    def __init__(self, folder: ModelFolder, max_tokens: int = 0) -> None:
        super().__init__(folder, max_tokens)
        require_plain_channels(self)

    @property
    def latent_scale(self) -> int:
        return latent_scale_of(self.configs[VAE])

    @property
    def pixel_multiple(self) -> int:
        return int(self.latent_scale * 2 ** (len(self.configs[UNET]["block_out_channels"]) - 1))

    def read_tokens(self, asked: int) -> int:
        return clip_tokens(asked)

    @property
    def token_limit(self) -> int:
        return self.max_tokens // CHUNK * (int(self.tokenizers[TEXT].model_max_length) - 2)

    @property
    def tokenize(self) -> Tokenize:
        return ClipTokenize(TEXT, self.tokenizers[TEXT], self.max_tokens)

    def encode_text(self, tokens: Mapping[str, Tensor]) -> Conditioning:
        length = self.tokenizers[TEXT].model_max_length
        return {"embeddings": encode_chunks(self.modules[TEXT], tokens[TEXT], length)}

    def predict(self, noisy: Tensor, t: Tensor, conditioning: Conditioning, geometry: Tensor) -> Tensor:
        prediction: Tensor = self.modules[UNET](noisy, t, conditioning["embeddings"], return_dict=False)[0]
        return prediction

    def conditions(self, prompts: tuple[Prompt, ...]) -> dict[str, Any]:
        """Words, or where more tokens are read than the pipeline would, their embeddings."""
        asked = super().conditions(prompts)
        if self.max_tokens <= CHUNK:
            return asked
        device = next(self.modules[TEXT].parameters()).device
        for kind in ("prompt", "negative_prompt"):
            tokens = {TEXT: self.tokenize(asked.pop(kind))[TEXT].to(device)}
            asked[f"{kind}_embeds"] = self.encode_text(tokens)["embeddings"]
        return asked

    def sampler(self, name: str) -> Any:
        """DDIM (Song et al. 2020, 2010.02502), unless another is named.

        Clipping is for pictures and would cut latents; the pipeline itself insists on both settings, with a warning.
        """
        return sampler_of(self.scheduler, name or "DDIMScheduler", clip_sample=False, steps_offset=1)

    def index_entries(self) -> dict[str, Any]:
        return super().index_entries() | {"image_encoder": [None, None]}

    def single_file(self, tensors: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
        return {name: tensor.contiguous() for name, tensor in to_single_file(tensors).items()}


def latent_scale_of(vae: Mapping[str, Any]) -> int:
    """Of an AutoencoderKL's config: it halves the sides between its levels."""
    return int(2 ** (len(vae["block_out_channels"]) - 1))


def require_plain_channels(family: PipelineFamily) -> None:
    """The UNet sees noisy latents and nothing beside them."""
    unet, vae, folder = family.configs[UNET], family.configs[VAE], family.folder
    takes, gives = unet.get("in_channels", 4), vae.get("latent_channels", 4)
    if takes != gives:
        beside = ": an inpainting model, which this trainer cannot train yet" if takes == 2 * gives + 1 else ""
        raise ConfigError(
            "model", [f"{folder.key}  {folder.path}: the unet takes {takes} channels, the vae gives {gives}{beside}"]
        )


FAMILY = StableDiffusion
