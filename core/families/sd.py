"""Stable Diffusion 1.x and 2.x: AutoencoderKL, one CLIP text encoder, UNet2DConditionModel (Rombach et al. 2022, 2112.10752).

2.x has a wider text encoder, of OpenCLIP, and for 768 pixels predicts v; both follow from the folder's configs.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from events.payloads import Conditioning

from .parts.clip import encode_chunks
from .parts.latent_unet import UNET, VAE, LatentUNet
from .parts.ldm_clip import openai_places, openclip_places
from .parts.original import Places

TEXT = "text_encoder"


class StableDiffusion(LatentUNet):
    """The modules and how they work together."""

    pipelines = ("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline")
    parts = {UNET: "UNet2DConditionModel", VAE: "AutoencoderKL", TEXT: "CLIPTextModel"}
    tokenizer_folders = {TEXT: "tokenizer"}
    trainable = (UNET, TEXT)
    nothing = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}

    def encode_text(self, tokens: Mapping[str, Tensor]) -> Conditioning:
        return {"embeddings": encode_chunks(self.modules[TEXT], tokens[TEXT], self._length(TEXT))}

    def predict(self, noisy: Tensor, t: Tensor, conditioning: Conditioning, geometry: Tensor) -> Tensor:
        prediction: Tensor = self.modules[UNET](noisy, t, conditioning["embeddings"], return_dict=False)[0]
        return prediction

    def index_entries(self) -> dict[str, Any]:
        return super().index_entries() | {"image_encoder": [None, None]}

    @property
    def architecture(self) -> str:
        if self.configs[TEXT].get("hidden_act") != "gelu":
            return "stable-diffusion-v1"
        return "stable-diffusion-v2-768-v" if self.schedule.prediction == "v_prediction" else "stable-diffusion-v2-512"

    @property
    def text_layout(self) -> dict[str, Places]:
        """OpenAI's CLIP and OpenCLIP's differ in their activation, and in how their files are laid out."""
        if self.configs[TEXT].get("hidden_act") == "gelu":
            return {TEXT: openclip_places("cond_stage_model.model.")}
        return {TEXT: openai_places("cond_stage_model.transformer.")}


FAMILY = StableDiffusion
