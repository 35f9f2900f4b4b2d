"""Stable Diffusion 3 and 3.5: a transformer over picture and text together (Esser et al. 2024, 2403.03206).

It is trained as a flow. Two CLIP text encoders and a T5 read each caption. A folder may be without the T5, whose
place zeros then take, as in the stock pipeline.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from events.payloads import Conditioning, Prompt

from ..data.samples import Tokenize
from .parts.clip import ClipTokenize, encode_penultimate
from .parts.latents import latent_scale_of
from .parts.pipeline import PipelineFamily
from .parts.sentences import tokens_to_read
from .parts.tokenizers import PaddedTokenize, Together

TRANSFORMER, VAE = "transformer", "vae"
CLIP_L, CLIP_G, T5 = "text_encoder", "text_encoder_2", "text_encoder_3"
T5_TOKENS, MOST_T5_TOKENS = 256, 512


class StableDiffusion3(PipelineFamily):
    """The modules and how they work together."""

    pipelines = ("StableDiffusion3Pipeline", "StableDiffusion3Img2ImgPipeline")
    parts = {
        TRANSFORMER: "SD3Transformer2DModel",
        VAE: "AutoencoderKL",
        CLIP_L: "CLIPTextModelWithProjection",
        CLIP_G: "CLIPTextModelWithProjection",
        T5: "T5EncoderModel",
    }
    optional = frozenset({T5})
    tokenizer_folders = {CLIP_L: "tokenizer", CLIP_G: "tokenizer_2", T5: "tokenizer_3"}
    trainable = (TRANSFORMER, CLIP_L, CLIP_G, T5)

    @property
    def latent_scale(self) -> int:
        return latent_scale_of(self.configs[VAE])

    @property
    def pixel_multiple(self) -> int:
        return self.latent_scale * int(self.configs[TRANSFORMER].get("patch_size", 2))

    def read_tokens(self, asked: int) -> int:
        """Of the T5; CLIP always reads its 77."""
        return tokens_to_read(asked, usual=T5_TOKENS, most=MOST_T5_TOKENS)

    @property
    def token_limit(self) -> int:
        """Beside the end, and for CLIP the beginning."""
        return self.max_tokens - 1 if T5 in self.present else int(self.tokenizers[CLIP_G].model_max_length) - 2

    @property
    def tokenize(self) -> Tokenize:
        clip = tuple(ClipTokenize(name, self.tokenizers[name]) for name in (CLIP_L, CLIP_G))
        if T5 not in self.present:
            return Together(clip)
        return Together((*clip, PaddedTokenize(T5, self.tokenizers[T5], self.max_tokens)))

    def encode_text(self, tokens: Mapping[str, Tensor]) -> Conditioning:
        """The two CLIPs side by side, filled up with zeros to the width of the T5, whose tokens follow theirs."""
        (first, pooled), (second, pooled_2) = (
            encode_penultimate(self.modules[name], tokens[name], tokens[name].shape[1]) for name in (CLIP_L, CLIP_G)
        )
        clip, t5 = torch.cat([first, second], dim=-1), self._sentence(tokens)
        clip = pad(clip, (0, t5.shape[-1] - clip.shape[-1]))
        return {"embeddings": torch.cat([clip, t5], dim=1), "pooled": torch.cat([pooled, pooled_2], dim=-1)}

    def predict(self, noisy: Tensor, t: Tensor, conditioning: Conditioning, geometry: Tensor) -> Tensor:
        prediction: Tensor = self.modules[TRANSFORMER](
            noisy, conditioning["embeddings"], conditioning["pooled"], t, return_dict=False
        )[0]
        return prediction

    def conditions(self, prompts: tuple[Prompt, ...]) -> dict[str, Any]:
        return super().conditions(prompts) | {"max_sequence_length": self.max_tokens}

    def index_entries(self) -> dict[str, Any]:
        return {"image_encoder": [None, None], "feature_extractor": [None, None]}

    def _sentence(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """What the T5 makes of the captions, (B, max_tokens, D), or zeros."""
        if T5 in self.present:
            hidden: Tensor = self.modules[T5](tokens[T5])[0]
            return hidden
        ids, width = tokens[CLIP_L], self.configs[TRANSFORMER]["joint_attention_dim"]
        return torch.zeros(len(ids), self.max_tokens, width, device=ids.device)


FAMILY = StableDiffusion3
