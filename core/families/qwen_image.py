"""Qwen-Image: a transformer over picture and text together, trained as a flow (Wu et al. 2025, 2508.02324).

Captions are read by Qwen2.5-VL.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from events.payloads import Conditioning, Prompt

from ..data.samples import Tokenize
from .parts.folder import ModelFolder
from .parts.latents import pack, unpack
from .parts.pipeline import PipelineFamily, dtype_of
from .parts.sentences import attention_to_earlier, tokens_to_read
from .parts.tokenizers import MASK, PaddedTokenize

TRANSFORMER, VAE, QWEN = "transformer", "vae", "text_encoder"
TOKENS, MOST_TOKENS = 512, 1024
PATCH = 2
"""Latents on the side of a token."""
TEMPLATE = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, "
    "spatial relationships of the objects and background:<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n"
    "<|im_start|>assistant\n"
)
"""The words around captions that the model was trained with."""
BEFORE_CAPTION = 34
"""Tokens of the template before the caption; their states are left out."""
MOVED = {"model.language_model.": "model.", "model.visual.": "visual."}
"""Beginnings of names in memory -> those that the files of Qwen2.5-VL have."""


class QwenImage(PipelineFamily):
    """The modules and how they work together."""

    pipelines = ("QwenImagePipeline", "QwenImageImg2ImgPipeline")
    parts = {
        TRANSFORMER: "QwenImageTransformer2DModel",
        VAE: "AutoencoderKLQwenImage",
        QWEN: "Qwen2_5_VLForConditionalGeneration",
    }
    tokenizer_folders = {QWEN: "tokenizer"}
    trainable = (TRANSFORMER,)
    ignores_padding = True

    def __init__(self, folder: ModelFolder, max_tokens: int = 0) -> None:
        super().__init__(folder, max_tokens)
        self.tokenizers[QWEN].padding_side = "right"

    @property
    def latent_scale(self) -> int:
        """The autoencoder is one of films and halves the sides as often as it may halve the time."""
        return int(2 ** len(self.configs[VAE]["temperal_downsample"]))

    @property
    def pixel_multiple(self) -> int:
        return self.latent_scale * PATCH

    def read_tokens(self, asked: int) -> int:
        return tokens_to_read(asked, usual=TOKENS, most=MOST_TOKENS)

    @property
    def tokenize(self) -> Tokenize:
        return PaddedTokenize(QWEN, self.tokenizers[QWEN], self.max_tokens + BEFORE_CAPTION, TEMPLATE)

    def encode_text(self, tokens: Mapping[str, Tensor]) -> Conditioning:
        """The last states of the caption and of what follows it in the template."""
        model: Any = self.modules[QWEN]
        mask = tokens[QWEN + MASK]
        seen = attention_to_earlier(mask, dtype_of(model))
        hidden = model.model.language_model(tokens[QWEN], attention_mask=seen, use_cache=False).last_hidden_state
        return {"embeddings": hidden[:, BEFORE_CAPTION:], "mask": mask[:, BEFORE_CAPTION:].bool()}

    def encode_images(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """A picture is a film of one frame."""
        vae: Any = self.modules[VAE]
        posterior = vae.encode(pixels.to(dtype_of(vae))[:, :, None]).latent_dist
        usual, spread = (
            _by_channel(self.configs[VAE][name], pixels.device) for name in ("latents_mean", "latents_std")
        )
        return (posterior.mean[:, :, 0].float() - usual) / spread, posterior.std[:, :, 0].float() / spread

    def predict(self, noisy: Tensor, t: Tensor, conditioning: Conditioning, geometry: Tensor) -> Tensor:
        height, width = noisy.shape[2:]
        takes_guidance = self.configs[TRANSFORMER]["guidance_embeds"]
        output: Tensor = self.modules[TRANSFORMER](
            hidden_states=pack(noisy),
            encoder_hidden_states=conditioning["embeddings"],
            encoder_hidden_states_mask=conditioning["mask"],
            timestep=t / self.schedule.timesteps,
            img_shapes=[[(1, height // PATCH, width // PATCH)]] * len(noisy),
            guidance=torch.ones_like(t) if takes_guidance else None,
            return_dict=False,
        )[0]
        return unpack(output, height, width)

    def conditions(self, prompts: tuple[Prompt, ...]) -> dict[str, Any]:
        asked = super().conditions(prompts)
        return asked | {"true_cfg_scale": asked.pop("guidance_scale"), "max_sequence_length": self.max_tokens}

    def long_standing(self, name: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return {_moved(key): tensor for key, tensor in state.items()} if name == QWEN else state


def _by_channel(values: Sequence[float], device: torch.device) -> Tensor:
    """(C, 1, 1), copied without a wait."""
    return torch.tensor(values).to(device, non_blocking=True)[:, None, None]


def _moved(key: str) -> str:
    for beginning, other in MOVED.items():
        if key.startswith(beginning):
            return other + key.removeprefix(beginning)
    return key


FAMILY = QwenImage
