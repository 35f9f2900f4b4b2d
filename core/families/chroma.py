"""Chroma: Flux.1 without its guidance input and its second text encoder (lodestones 2025, after Flux.1 schnell).

A caption's T5 states are seen by the picture up to one token past their end, as the model was trained.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from events.payloads import Conditioning, Prompt

from ..data.samples import Tokenize
from .parts.latents import latent_scale_of, pack, places, unpack
from .parts.pipeline import PipelineFamily, dtype_of
from .parts.sentences import attention_to, tokens_to_read
from .parts.tokenizers import MASK, PaddedTokenize

TRANSFORMER, VAE, T5 = "transformer", "vae", "text_encoder"
MOST_TOKENS = 512
PATCH = 2
"""Latents on the side of a token."""


class Chroma(PipelineFamily):
    """The modules and how they work together."""

    pipelines = ("ChromaPipeline", "ChromaImg2ImgPipeline")
    parts = {TRANSFORMER: "ChromaTransformer2DModel", VAE: "AutoencoderKL", T5: "T5EncoderModel"}
    tokenizer_folders = {T5: "tokenizer"}
    trainable = (TRANSFORMER, T5)

    @property
    def latent_scale(self) -> int:
        return latent_scale_of(self.configs[VAE])

    @property
    def pixel_multiple(self) -> int:
        return self.latent_scale * PATCH

    def read_tokens(self, asked: int) -> int:
        return tokens_to_read(asked, usual=MOST_TOKENS, most=MOST_TOKENS)

    @property
    def token_limit(self) -> int:
        """Beside the end."""
        return self.max_tokens - 1

    @property
    def tokenize(self) -> Tokenize:
        return PaddedTokenize(T5, self.tokenizers[T5], self.max_tokens)

    def encode_text(self, tokens: Mapping[str, Tensor]) -> Conditioning:
        text_encoder, mask = self.modules[T5], tokens[T5 + MASK]
        embeddings = text_encoder(tokens[T5], attention_mask=attention_to(mask, dtype_of(text_encoder)))[0]
        one_past_the_end = torch.arange(mask.shape[1], device=mask.device) <= mask.sum(dim=1, keepdim=True)
        return {"embeddings": embeddings, "mask": one_past_the_end.to(embeddings.dtype)}

    def predict(self, noisy: Tensor, t: Tensor, conditioning: Conditioning, geometry: Tensor) -> Tensor:
        embeddings, (height, width) = conditioning["embeddings"], noisy.shape[2:]
        packed, mask = pack(noisy), conditioning["mask"]
        output: Tensor = self.modules[TRANSFORMER](
            hidden_states=packed,
            encoder_hidden_states=embeddings,
            timestep=t / self.schedule.timesteps,
            img_ids=places(1, height // PATCH, width // PATCH, device=noisy.device),
            txt_ids=torch.zeros(embeddings.shape[1], 3, device=noisy.device),
            attention_mask=torch.cat([mask, mask.new_ones(packed.shape[:2])], dim=1),
            return_dict=False,
        )[0]
        return unpack(output, height, width)

    def conditions(self, prompts: tuple[Prompt, ...]) -> dict[str, Any]:
        return super().conditions(prompts) | {"max_sequence_length": self.max_tokens}

    def index_entries(self) -> dict[str, Any]:
        return {"image_encoder": [None, None], "feature_extractor": [None, None]}


FAMILY = Chroma
