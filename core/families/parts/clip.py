"""CLIP text encoders and tokenizers on disk, in the layout that old and new consumers read.

transformers 5 writes CLIPTextModel without the `text_model.` prefix and the tokenizer as `tokenizer.json` alone. Older
releases, which many tools pin, read such a folder as a randomly initialised text encoder with only a warning. So we
write the long-standing layout, read both, and refuse a file that leaves a weight without a value.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import ConfigError
from .folder import write_json
from .tokenizers import plain_ids

PREFIX = "text_model."
CHUNK = 75
"""Tokens of a caption that CLIP reads at once, beside its beginning and end."""


@dataclass(frozen=True, slots=True)
class ClipTokenize:
    """Captions -> ids (B, 77 n), in n chunks that each begin, end and are padded as a caption of its own."""

    name: str
    tokenizer: Any
    max_tokens: int = CHUNK
    """75 n; what goes beyond is cut off."""

    def __call__(self, captions: Sequence[str]) -> Mapping[str, Tensor]:
        rows = [self._chunks(ids) for ids in plain_ids(self.tokenizer, captions, self.max_tokens)]
        return {self.name: torch.tensor(rows, dtype=torch.int64).reshape(len(rows), -1)}

    def _chunks(self, ids: list[int]) -> list[list[int]]:
        tokenizer, per_chunk = self.tokenizer, self.tokenizer.model_max_length - 2
        count = self.max_tokens // CHUNK
        chunks = [ids[start : start + per_chunk] for start in range(0, count * per_chunk, per_chunk)]
        return [
            [tokenizer.bos_token_id, *chunk, tokenizer.eos_token_id]
            + [tokenizer.pad_token_id] * (per_chunk - len(chunk))
            for chunk in chunks
        ]


def clip_tokens(asked: int) -> int:
    """How many tokens of a caption are read: 75, or as many chunks of 75 as `data.max_tokens` asks for."""
    if asked % CHUNK:
        lower = max(CHUNK, asked // CHUNK * CHUNK)
        raise ConfigError(
            "config", [f"data.max_tokens  {asked} is no multiple of {CHUNK}, which CLIP reads at a time; use {lower}"]
        )
    return asked or CHUNK


def kohya_names(prefix: str, layers: Iterable[str]) -> dict[str, str]:
    """Of a CLIP text encoder's layers, which are under `text_model.` there."""
    return {layer: prefix + (PREFIX + layer.removeprefix(PREFIX)).replace(".", "_") for layer in layers}


def encode_chunks(text_encoder: nn.Module, ids: Tensor, length: int) -> Tensor:
    """Ids (B, n length) -> last hidden states (B, n length, D), each chunk encoded on its own and joined again."""
    hidden: Tensor = text_encoder(ids.reshape(-1, length))[0]
    return hidden.reshape(ids.shape[0], ids.shape[1], hidden.shape[-1])


def encode_penultimate(text_encoder: nn.Module, ids: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Ids (B, n length) -> states before the last layer (B, n length, D), and the encoder's own vector (B, P) of chunk one.

    That vector is the projected one of the caption's end where the encoder has a projection.
    """
    found = text_encoder(ids.reshape(-1, length), output_hidden_states=True)
    hidden: Tensor = found.hidden_states[-2]
    pooled: Tensor = found.text_embeds if hasattr(found, "text_embeds") else found.pooler_output
    return (
        hidden.reshape(ids.shape[0], ids.shape[1], hidden.shape[-1]),
        pooled.reshape(ids.shape[0], -1, pooled.shape[-1])[:, 0],
    )


def long_standing_keys(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under `text_model.`, where every release looks for them."""
    return {name if name.startswith(PREFIX) else PREFIX + name: tensor for name, tensor in tensors.items()}


def write_text_config(config: Any, kind: str, folder: Path) -> None:
    """`config.json`, whose dtype is float32 as in the original models, also beside weights of half precision.

    transformers 5 follows it unasked while diffusers loads the denoiser in float32 unasked, and only equal ones fit.
    """
    table = json.loads(config.to_json_string(use_diff=True))
    table.pop("dtype", None)
    table |= {"architectures": [kind], "torch_dtype": "float32"}
    write_json(folder / "config.json", table)
