"""Stable Diffusion XL: as Stable Diffusion, with two text encoders and the sizes of each picture (Podell et al. 2023, 2307.01952).

Captions are read by CLIP and by OpenCLIP, whose states before the last layer lie side by side; the second also gives one
vector for all of a caption. Empty captions are encoded as any other.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from events.payloads import Conditioning

from ..config.tables import ModelTable
from .parts.clip import encode_penultimate
from .parts.latent_unet import UNET, VAE, LatentUNet
from .parts.ldm_clip import openai_places, openclip_places
from .parts.ldm_unet import PREFIX, unet_places
from .parts.original import Places

TEXT, TEXT_2 = "text_encoder", "text_encoder_2"
ZEROS = "force_zeros_for_empty_prompt"


class StableDiffusionXL(LatentUNet):
    """The modules and how they work together."""

    pipelines = ("StableDiffusionXLPipeline", "StableDiffusionXLImg2ImgPipeline")
    parts = {
        UNET: "UNet2DConditionModel",
        VAE: "AutoencoderKL",
        TEXT: "CLIPTextModel",
        TEXT_2: "CLIPTextModelWithProjection",
    }
    tokenizer_folders = {TEXT: "tokenizer", TEXT_2: "tokenizer_2"}
    trainable = (UNET, TEXT, TEXT_2)

    text_prefixes = ("lora_te1_", "lora_te2_")

    @property
    def architecture(self) -> str:
        return "stable-diffusion-xl-v1-base"

    def load(self, table: ModelTable, seed: int) -> None:
        super().load(table, seed)
        self._unet_places = unet_places(self.modules[UNET].state_dict())

    def kohya_path(self, layer: str) -> str:
        """In the original layout, in which sd-scripts trains XL."""
        return self._unet_places[f"{layer}.weight"].name.removeprefix(PREFIX).removesuffix(".weight")

    def encode_text(self, tokens: Mapping[str, Tensor]) -> Conditioning:
        """`pooled` is of the first chunk of a caption."""
        first, _ = encode_penultimate(self.modules[TEXT], tokens[TEXT], self._length(TEXT))
        second, pooled = encode_penultimate(self.modules[TEXT_2], tokens[TEXT_2], self._length(TEXT_2))
        return {"embeddings": torch.cat([first, second], dim=-1), "pooled": pooled}

    def predict(self, noisy: Tensor, t: Tensor, conditioning: Conditioning, geometry: Tensor) -> Tensor:
        """The sizes are (original height, width, crop's top, left, height, width), as `Batch.geometry` has them (2.2)."""
        added = {"text_embeds": conditioning["pooled"], "time_ids": geometry.float()}
        prediction: Tensor = self.modules[UNET](
            noisy, t, conditioning["embeddings"], added_cond_kwargs=added, return_dict=False
        )[0]
        return prediction

    def index_entries(self) -> dict[str, Any]:
        """Whether the stock pipeline guides away from zeros when it is given no negative prompt stays as it was."""
        absent = {"image_encoder": [None, None], "feature_extractor": [None, None]}
        return super().index_entries() | absent | {ZEROS: self.folder.index().get(ZEROS, True)}

    @property
    def text_layout(self) -> dict[str, Places]:
        return {
            TEXT: openai_places("conditioner.embedders.0.transformer."),
            TEXT_2: openclip_places("conditioner.embedders.1.model."),
        }


FAMILY = StableDiffusionXL
