"""Flux.2 klein: a transformer over picture and text together, trained as a flow (Black Forest Labs 2026).

Captions are questions to a Qwen3, of whose states three layers are read, filled-up places too. A latent is what the
autoencoder makes of 16 x 16 pixels: its squares of 2 x 2, normalised by the statistics that it has learned.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from events.payloads import Conditioning, Prompt

from ..data.samples import Tokenize
from .parts.folder import ModelFolder
from .parts.latents import latent_scale_of, places, squares_as_channels
from .parts.pipeline import PipelineFamily, dtype_of
from .parts.sentences import attention_to_earlier, tokens_to_read
from .parts.tokenizers import MASK, PaddedTokenize, plain_ids
from .parts.weights import reading

TRANSFORMER, VAE, QWEN = "transformer", "vae", "text_encoder"
MOST_TOKENS = 512
READ_LAYERS = (9, 18, 27)
SQUARE = 2
"""Of the autoencoder's own latents, on the side of one that is trained on."""


class Flux2Klein(PipelineFamily):
    """The modules and how they work together."""

    pipelines = ("Flux2KleinPipeline",)
    parts = {TRANSFORMER: "Flux2Transformer2DModel", VAE: "AutoencoderKLFlux2", QWEN: "Qwen3ForCausalLM"}
    tokenizer_folders = {QWEN: "tokenizer"}
    trainable = (TRANSFORMER,)

    def __init__(self, folder: ModelFolder, max_tokens: int = 0) -> None:
        super().__init__(folder, max_tokens)
        self.nothing = {"is_distilled": bool(folder.index().get("is_distilled", False))}
        self.template = _question(self.tokenizers[QWEN], folder)

    @property
    def latent_scale(self) -> int:
        return latent_scale_of(self.configs[VAE]) * SQUARE

    @property
    def pixel_multiple(self) -> int:
        return self.latent_scale

    def read_tokens(self, asked: int) -> int:
        """With those of the question around it."""
        return tokens_to_read(asked, usual=MOST_TOKENS, most=MOST_TOKENS)

    @property
    def token_limit(self) -> int:
        """Beside the question's beginning."""
        (before,) = plain_ids(self.tokenizers[QWEN], [self.template.partition("{}")[0]])
        return self.max_tokens - len(before)

    @property
    def tokenize(self) -> Tokenize:
        return PaddedTokenize(QWEN, self.tokenizers[QWEN], self.max_tokens, self.template)

    def encode_text(self, tokens: Mapping[str, Tensor]) -> Conditioning:
        """Three layers' states side by side, (B, L, 3 D)."""
        language_model: Any = self.modules[QWEN]
        seen = attention_to_earlier(tokens[QWEN + MASK], dtype_of(language_model))
        states = language_model.model(
            tokens[QWEN], attention_mask=seen, output_hidden_states=True, use_cache=False
        ).hidden_states
        return {"embeddings": torch.cat([states[layer] for layer in READ_LAYERS], dim=-1)}

    def encode_images(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        vae: Any = self.modules[VAE]
        posterior = vae.encode(pixels.to(dtype_of(vae))).latent_dist
        mean, deviation = (squares_as_channels(part.float()) for part in (posterior.mean, posterior.std))
        usual = vae.bn.running_mean.float()[:, None, None]
        spread = (vae.bn.running_var.float() + self.configs[VAE]["batch_norm_eps"]).sqrt()[:, None, None]
        return (mean - usual) / spread, deviation / spread

    def predict(self, noisy: Tensor, t: Tensor, conditioning: Conditioning, geometry: Tensor) -> Tensor:
        embeddings, device = conditioning["embeddings"], noisy.device
        takes_guidance = self.configs[TRANSFORMER]["guidance_embeds"]
        output: Tensor = self.modules[TRANSFORMER](
            hidden_states=noisy.flatten(2).transpose(1, 2),
            encoder_hidden_states=embeddings,
            timestep=t / self.schedule.timesteps,
            img_ids=places(1, *noisy.shape[2:], 1, device=device),
            txt_ids=places(1, 1, 1, embeddings.shape[1], device=device),
            guidance=torch.ones_like(t) if takes_guidance else None,
            return_dict=False,
        )[0]
        return output.transpose(1, 2).reshape(noisy.shape)

    def conditions(self, prompts: tuple[Prompt, ...]) -> dict[str, Any]:
        """The stock pipeline guides away from the empty prompt; a negative one has no part in it."""
        return {
            "prompt": [prompt.text for prompt in prompts],
            "guidance_scale": prompts[0].guidance,
            "max_sequence_length": self.max_tokens,
        }


def _question(tokenizer: Any, folder: ModelFolder) -> str:
    """A caption, {}, as the tokenizer's own chat template puts it. Raises ConfigError where there is none."""
    with reading(folder.path / "tokenizer"):
        question: str = tokenizer.apply_chat_template(
            [{"role": "user", "content": "{}"}], tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
    return question


FAMILY = Flux2Klein
