"""Flux.1: a transformer over picture and text together, trained as a flow (Black Forest Labs 2024, dev and schnell).

CLIP gives one vector for the whole caption, T5 one for each token. Where the model was distilled to take a guidance
scale as an input (dev), it is trained at a scale of 1, which is no guidance.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from events.payloads import Conditioning, Prompt

from ..data.samples import Tokenize
from .parts.clip import ClipTokenize
from .parts.latents import latent_scale_of, pack, places, unpack
from .parts.pipeline import PipelineFamily
from .parts.sentences import tokens_to_read
from .parts.tokenizers import PaddedTokenize, Together

TRANSFORMER, VAE, CLIP, T5 = "transformer", "vae", "text_encoder", "text_encoder_2"
MOST_TOKENS = 512
PATCH = 2
"""Latents on the side of a token."""


class Flux(PipelineFamily):
    """The modules and how they work together."""

    pipelines = ("FluxPipeline", "FluxImg2ImgPipeline")
    parts = {TRANSFORMER: "FluxTransformer2DModel", VAE: "AutoencoderKL", CLIP: "CLIPTextModel", T5: "T5EncoderModel"}
    tokenizer_folders = {CLIP: "tokenizer", T5: "tokenizer_2"}
    trainable = (TRANSFORMER, CLIP, T5)

    @property
    def latent_scale(self) -> int:
        return latent_scale_of(self.configs[VAE])

    @property
    def pixel_multiple(self) -> int:
        return self.latent_scale * PATCH

    def read_tokens(self, asked: int) -> int:
        """Of the T5; CLIP always reads its 77."""
        return tokens_to_read(asked, usual=MOST_TOKENS, most=MOST_TOKENS)

    @property
    def token_limit(self) -> int:
        """Beside the end."""
        return self.max_tokens - 1

    @property
    def tokenize(self) -> Tokenize:
        clip = ClipTokenize(CLIP, self.tokenizers[CLIP])
        return Together((clip, PaddedTokenize(T5, self.tokenizers[T5], self.max_tokens)))

    def encode_text(self, tokens: Mapping[str, Tensor]) -> Conditioning:
        return {
            "embeddings": self.modules[T5](tokens[T5])[0],
            "pooled": self.modules[CLIP](tokens[CLIP]).pooler_output,
        }

    def predict(self, noisy: Tensor, t: Tensor, conditioning: Conditioning, geometry: Tensor) -> Tensor:
        embeddings, (height, width) = conditioning["embeddings"], noisy.shape[2:]
        takes_guidance = self.configs[TRANSFORMER]["guidance_embeds"]
        output: Tensor = self.modules[TRANSFORMER](
            hidden_states=pack(noisy),
            encoder_hidden_states=embeddings,
            pooled_projections=conditioning["pooled"],
            timestep=t / self.schedule.timesteps,
            img_ids=places(1, height // PATCH, width // PATCH, device=noisy.device),
            txt_ids=torch.zeros(embeddings.shape[1], 3, device=noisy.device),
            guidance=torch.ones_like(t) if takes_guidance else None,
            return_dict=False,
        )[0]
        return unpack(output, height, width)

    def conditions(self, prompts: tuple[Prompt, ...]) -> dict[str, Any]:
        """Guidance is the scale that the model takes as an input; a negative prompt has no part in it."""
        return {
            "prompt": [prompt.text for prompt in prompts],
            "guidance_scale": prompts[0].guidance,
            "max_sequence_length": self.max_tokens,
        }

    def index_entries(self) -> dict[str, Any]:
        return {"image_encoder": [None, None], "feature_extractor": [None, None]}


FAMILY = Flux
