"""What Stable Diffusion 1, 2 and XL have in common: an AutoencoderKL, CLIP text encoders, and a UNet2DConditionModel."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from events.payloads import Conditioning, Prompt

from ...data.samples import Tokenize
from ...errors import ConfigError
from .clip import CHUNK, ClipTokenize, clip_tokens, kohya_names
from .folder import ModelFolder
from .latents import latent_scale_of
from .ldm_unet import unet_places
from .ldm_vae import vae_places
from .original import Places
from .pipeline import PipelineFamily
from .scheduler import sampler_of
from .tokenizers import Together

UNET, VAE = "unet", "vae"


class LatentUNet(PipelineFamily):
    """Made for discrete timesteps, and for captions in chunks of 75 tokens."""

    denoiser = UNET
    predictions = ("epsilon", "v_prediction", "sample")
    single_files = True

    def __init__(self, folder: ModelFolder, max_tokens: int = 0) -> None:
        super().__init__(folder, max_tokens)
        _require_plain_channels(folder, self.configs[UNET], self.configs[VAE])

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
        return self.max_tokens // CHUNK * (self._length(self.text_encoders[-1]) - 2)

    @property
    def tokenize(self) -> Tokenize:
        each = tuple(ClipTokenize(name, self.tokenizers[name], self.max_tokens) for name in self.text_encoders)
        return each[0] if len(each) == 1 else Together(each)

    def conditions(self, prompts: tuple[Prompt, ...]) -> dict[str, Any]:
        """Words, or where more tokens are read than the pipeline would, what is made of them here."""
        asked = super().conditions(prompts)
        if self.max_tokens <= CHUNK:
            return asked
        for kind, before in (("prompt", ""), ("negative_prompt", "negative_")):
            tokens = self.tokenize(asked.pop(kind))
            read = self.encode_text({name: ids.to(_device_of(self.modules[name])) for name, ids in tokens.items()})
            asked |= {f"{before}{self.prompt_arguments[name]}": part for name, part in read.items()}
        return asked

    prompt_arguments: Mapping[str, str] = {"embeddings": "prompt_embeds", "pooled": "pooled_prompt_embeds"}
    """What the pipeline calls the parts of a conditioning."""

    def sampler(self, name: str) -> Any:
        """DDIM (Song et al. 2020, 2010.02502), unless another is named.

        Clipping is for pictures and would cut latents; the pipeline itself insists on both settings, with a warning.
        """
        return sampler_of(self.scheduler, name or "DDIMScheduler", clip_sample=False, steps_offset=1)

    def kohya(self, module: str, layers: Iterable[str]) -> Mapping[str, str]:
        """The paths with underscores, after the module's prefix."""
        if module == UNET:
            return {layer: "lora_unet_" + self.kohya_path(layer).replace(".", "_") for layer in layers}
        prefixes = dict(zip(self.text_encoders, self.text_prefixes, strict=True))
        return kohya_names(prefixes[module], layers) if module in prefixes else {}

    text_prefixes: tuple[str, ...] = ("lora_te_",)
    """Of the text encoders' layers in sd-scripts' files."""

    def kohya_path(self, layer: str) -> str:
        """Of a layer of the UNet, whose path in diffusers it is for Stable Diffusion 1 and 2."""
        return layer

    @property
    def layout(self) -> Mapping[str, Places]:
        return {UNET: unet_places, VAE: vae_places} | self.text_layout

    @property
    @abstractmethod
    def text_layout(self) -> dict[str, Places]:
        """Of the text encoders."""

    @abstractmethod
    def encode_text(self, tokens: Mapping[str, Tensor]) -> Conditioning: ...

    def _length(self, text_encoder: str) -> int:
        """Of a chunk, with its beginning and end."""
        return int(self.tokenizers[text_encoder].model_max_length)


def _device_of(module: nn.Module) -> Any:
    return next(module.parameters()).device


def _require_plain_channels(folder: ModelFolder, unet: Mapping[str, Any], vae: Mapping[str, Any]) -> None:
    """The UNet sees noisy latents and nothing beside them."""
    takes, gives = unet.get("in_channels", 4), vae.get("latent_channels", 4)
    if takes != gives:
        is_inpainting = isinstance(gives, int) and takes == 2 * gives + 1
        beside = ": an inpainting model, which this trainer cannot train yet" if is_inpainting else ""
        raise ConfigError(
            "model", [f"{folder.key}  {folder.path}: the unet takes {takes} channels, the vae gives {gives}{beside}"]
        )
