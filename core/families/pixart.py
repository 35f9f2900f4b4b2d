"""PixArt-Sigma: a transformer that looks at captions by cross attention (Chen et al. 2024, 2403.04692).

It predicts the noise and, in as many channels again, a variance, which is neither trained nor used, as the stock
pipeline does not use it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from events.payloads import Conditioning, Prompt

from ..data.samples import Tokenize
from .parts.latents import latent_scale_of
from .parts.pipeline import PipelineFamily, dtype_of
from .parts.sentences import LowerCase, attention_to, lower, tokens_to_read
from .parts.tokenizers import MASK, PaddedTokenize

TRANSFORMER, VAE, T5 = "transformer", "vae", "text_encoder"
MOST_TOKENS = 512
"""As long as the texts were that the T5 has learned from."""
CONDITIONED_SIZE = 128
"""Latents on the side of the models that are told sizes, where their config does not say."""


class PixArtSigma(PipelineFamily):
    """The modules and how they work together."""

    pipelines = ("PixArtSigmaPipeline",)
    parts = {TRANSFORMER: "PixArtTransformer2DModel", VAE: "AutoencoderKL", T5: "T5EncoderModel"}
    tokenizer_folders = {T5: "tokenizer"}
    trainable = (TRANSFORMER, T5)
    ignores_padding = True
    predictions = ("epsilon", "v_prediction", "sample")
    usual_tokens = 300

    @property
    def latent_scale(self) -> int:
        return latent_scale_of(self.configs[VAE])

    @property
    def pixel_multiple(self) -> int:
        return self.latent_scale * int(self.configs[TRANSFORMER].get("patch_size", 2))

    def read_tokens(self, asked: int) -> int:
        return tokens_to_read(asked, usual=self.usual_tokens, most=MOST_TOKENS)

    @property
    def token_limit(self) -> int:
        """Beside the end."""
        return self.max_tokens - 1

    @property
    def tokenize(self) -> Tokenize:
        return LowerCase(PaddedTokenize(T5, self.tokenizers[T5], self.max_tokens))

    def count_tokens(self, captions: Sequence[str]) -> list[int]:
        return super().count_tokens([lower(caption) for caption in captions])

    def encode_text(self, tokens: Mapping[str, Tensor]) -> Conditioning:
        text_encoder, mask = self.modules[T5], tokens[T5 + MASK]
        seen = attention_to(mask, dtype_of(text_encoder))
        return {"embeddings": text_encoder(tokens[T5], attention_mask=seen)[0], "mask": mask}

    def predict(self, noisy: Tensor, t: Tensor, conditioning: Conditioning, geometry: Tensor) -> Tensor:
        output: Tensor = self.modules[TRANSFORMER](
            noisy,
            encoder_hidden_states=conditioning["embeddings"],
            encoder_attention_mask=conditioning["mask"],
            timestep=t,
            added_cond_kwargs=self._size_conditions(geometry),
            return_dict=False,
        )[0]
        return output[:, : noisy.shape[1]]

    def conditions(self, prompts: tuple[Prompt, ...]) -> dict[str, Any]:
        """Pictures of the very size that is asked for, and captions as they are trained on."""
        return super().conditions(prompts) | {
            "max_sequence_length": self.max_tokens,
            "use_resolution_binning": False,
            "clean_caption": False,
        }

    def _size_conditions(self, geometry: Tensor) -> dict[str, Tensor | None]:
        """Height, width and their ratio in pixels of the bucket, as the stock pipeline asks for them in rendering."""
        config = self.configs[TRANSFORMER]
        told = config.get("use_additional_conditions")
        if not (config.get("sample_size") == CONDITIONED_SIZE if told is None else told):
            return {"resolution": None, "aspect_ratio": None}
        size = geometry[:, 4:].float()
        return {"resolution": size, "aspect_ratio": size[:, :1] / size[:, 1:]}


FAMILY = PixArtSigma
