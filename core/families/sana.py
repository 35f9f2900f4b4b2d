"""Sana: linear attention over latents of 32 x 32 pixels, trained as a flow (Xie et al. 2024, 2410.10629).

Captions are read by Gemma 2. An instruction that asks it for more detail stands before all but the empty one, which
is read bare, as the stock pipeline reads what it guides away from.
"""

from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from events.payloads import Conditioning, Prompt

from ..data.samples import Tokenize
from .parts.folder import ModelFolder
from .parts.pipeline import PipelineFamily, dtype_of
from .parts.sentences import LowerCase, attention_to_earlier, lower, tokens_to_read
from .parts.tokenizers import MASK, PaddedTokenize

TRANSFORMER, VAE, GEMMA = "transformer", "vae", "text_encoder"
TOKENS, MOST_TOKENS = 300, 512


class Sana(PipelineFamily):
    """The modules and how they work together."""

    pipelines = ("SanaPipeline",)
    parts = {TRANSFORMER: "SanaTransformer2DModel", VAE: "AutoencoderDC", GEMMA: "Gemma2Model"}
    tokenizer_folders = {GEMMA: "tokenizer"}
    trainable = (TRANSFORMER,)
    ignores_padding = True

    def __init__(self, folder: ModelFolder, max_tokens: int = 0) -> None:
        super().__init__(folder, max_tokens)
        self.tokenizers[GEMMA].padding_side = "right"

    @property
    def latent_scale(self) -> int:
        """The autoencoder halves the sides between its levels."""
        return int(2 ** (len(self.configs[VAE]["encoder_block_out_channels"]) - 1))

    @property
    def pixel_multiple(self) -> int:
        return self.latent_scale * int(self.configs[TRANSFORMER].get("patch_size", 1))

    def read_tokens(self, asked: int) -> int:
        """Of a caption and its beginning; those of the instruction are beside."""
        return tokens_to_read(asked, usual=TOKENS, most=MOST_TOKENS)

    @property
    def token_limit(self) -> int:
        """Beside the beginning."""
        return self.max_tokens - 1

    @property
    def tokenize(self) -> Tokenize:
        tokenizer, instruction = self.tokenizers[GEMMA], _instruction()
        length = len(tokenizer.encode(instruction)) + self.max_tokens - 2
        return LowerCase(PaddedTokenize(GEMMA, tokenizer, length, instruction + "{}", bare_empty=True))

    def count_tokens(self, captions: Sequence[str]) -> list[int]:
        return super().count_tokens([lower(caption) for caption in captions])

    def encode_text(self, tokens: Mapping[str, Tensor]) -> Conditioning:
        """Without the instruction's own states: the first one and the last `max_tokens` - 1."""
        text_encoder, mask = self.modules[GEMMA], tokens[GEMMA + MASK]
        seen = attention_to_earlier(mask, dtype_of(text_encoder))
        hidden = text_encoder(tokens[GEMMA], attention_mask=seen, use_cache=False)[0]
        return {"embeddings": self._of_caption(hidden), "mask": self._of_caption(mask)}

    def encode_images(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The autoencoder gives one latent and no posterior."""
        vae: Any = self.modules[VAE]
        latents = vae.encode(pixels.to(dtype_of(vae))).latent.float() * self.configs[VAE]["scaling_factor"]
        latents = latents.contiguous()  # its last norm leaves the channels innermost
        return latents, torch.zeros_like(latents)

    def predict(self, noisy: Tensor, t: Tensor, conditioning: Conditioning, geometry: Tensor) -> Tensor:
        output: Tensor = self.modules[TRANSFORMER](
            noisy,
            encoder_hidden_states=conditioning["embeddings"],
            encoder_attention_mask=conditioning["mask"],
            timestep=t * self.configs[TRANSFORMER]["timestep_scale"],
            return_dict=False,
        )[0]
        return output[:, : noisy.shape[1]]

    def conditions(self, prompts: tuple[Prompt, ...]) -> dict[str, Any]:
        """Pictures of the very size that is asked for."""
        return super().conditions(prompts) | {
            "max_sequence_length": self.max_tokens,
            "use_resolution_binning": False,
            "clean_caption": False,
        }

    def _of_caption(self, states: Tensor) -> Tensor:
        return torch.cat([states[:, :1], states[:, 1 - self.max_tokens :]], dim=1)


def _instruction() -> str:
    """What the stock pipeline puts before captions unasked."""
    from diffusers import SanaPipeline

    lines: list[str] = signature(SanaPipeline.__call__).parameters["complex_human_instruction"].default
    return "\n".join(lines)


FAMILY = Sana
