"""CLIP text encoders and tokenizers on disk, in the layout that old and new consumers read.

transformers 5 writes CLIPTextModel without the `text_model.` prefix and the tokenizer as `tokenizer.json` alone. Older
releases, which many tools pin, read such a folder as a randomly initialised text encoder with only a warning. So we
write the long-standing layout, read both, and refuse a file that leaves a weight without a value.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .weights import reading, require_whole, tell_unused, weight_file

PREFIX = "text_model."
CHUNK = 75
"""Tokens of a caption that CLIP reads at once, beside its beginning and end."""


def load_text_encoder(folder: Path) -> nn.Module:
    """A CLIPTextModel in float32 from a folder in either layout.

    Raises ConfigError when the file has no value for some weight, or one of another shape.
    """
    from transformers import CLIPTextModel

    with reading(folder, f"add {folder.name!r} to model.from_scratch to start from its config alone"):
        model, report = CLIPTextModel.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, use_safetensors=True, output_loading_info=True,
            ignore_mismatched_sizes=True,
        )  # fmt: skip
    mismatched = [f"{name}, {tuple(held)} against {tuple(asked)}" for name, held, asked in report["mismatched_keys"]]
    missing = set(report["missing_keys"]) - {name for name, _, _ in report["mismatched_keys"]}
    source = weight_file(folder, "model.safetensors")
    require_whole(source, (name for name in missing if not name.endswith("position_ids")), mismatched)
    tell_unused(source, report["unexpected_keys"])
    loaded: nn.Module = model
    return loaded


def new_text_encoder(folder: Path) -> nn.Module:
    """A CLIPTextModel with fresh weights from the folder's config."""
    from transformers import CLIPTextConfig, CLIPTextModel

    with reading(folder):
        model: nn.Module = CLIPTextModel(CLIPTextConfig.from_pretrained(folder, local_files_only=True))
    return model


def load_tokenizer(folder: Path) -> Any:
    """A CLIPTokenizer from `tokenizer.json`, or from `vocab.json` and `merges.txt`."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(folder, local_files_only=True)


@dataclass(frozen=True, slots=True)
class ClipTokenize:
    """Captions -> ids (B, 77 n), in n chunks that each begin, end and are padded as a caption of its own."""

    name: str
    tokenizer: Any
    max_tokens: int = CHUNK
    """75 n; what goes beyond is cut off."""

    def __call__(self, captions: Sequence[str]) -> Mapping[str, Tensor]:
        rows = [self._chunks(ids) for ids in plain_ids(self.tokenizer, captions)]
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


def plain_ids(tokenizer: Any, captions: Sequence[str]) -> list[list[int]]:
    """The ids of each caption alone, without beginning, end, padding or cut."""
    found: list[list[int]] = tokenizer(
        list(captions), add_special_tokens=False, truncation=False, verbose=False
    ).input_ids
    return found


def count_tokens(tokenizer: Any, captions: Sequence[str]) -> list[int]:
    return [len(ids) for ids in plain_ids(tokenizer, captions)]


def tokenizer_identity(tokenizer: Any) -> str:
    """A digest of vocabulary, merges and normalisation; the padding and cutting of the last call do not count."""
    table = json.loads(tokenizer.backend_tokenizer.to_str()) | {"padding": None, "truncation": None}
    return blake2b(json.dumps(table, sort_keys=True).encode(), digest_size=16).hexdigest()


def encode_chunks(text_encoder: nn.Module, ids: Tensor, length: int) -> Tensor:
    """Ids (B, n length) -> last hidden states (B, n length, D), each chunk encoded on its own and joined again."""
    hidden: Tensor = text_encoder(ids.reshape(-1, length))[0]
    return hidden.reshape(ids.shape[0], ids.shape[1], hidden.shape[-1])


def long_standing_keys(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under `text_model.`, where every release looks for them."""
    return {name if name.startswith(PREFIX) else PREFIX + name: tensor for name, tensor in tensors.items()}


def write_text_config(config: Any, folder: Path) -> None:
    """`config.json`, whose dtype is float32 as in the original models, also beside weights of half precision.

    transformers 5 follows it unasked while diffusers loads the UNet in float32 unasked, and only equal ones fit.
    """
    table = json.loads(config.to_json_string(use_diff=True))
    table.pop("dtype", None)
    table |= {"architectures": ["CLIPTextModel"], "torch_dtype": "float32"}
    (folder / "config.json").write_text(json.dumps(table, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def write_tokenizer(tokenizer: Any, folder: Path) -> None:
    """`tokenizer.json` for new consumers, `vocab.json` and `merges.txt` for those that pin an older release.

    The padding and cutting of the last call, which transformers would write too, are left out.
    """
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer.json"
    table = json.loads(path.read_text(encoding="utf-8")) | {"padding": None, "truncation": None}
    path.write_text(json.dumps(table, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    model = table["model"]
    vocabulary = dict(sorted(model["vocab"].items(), key=lambda entry: entry[1]))
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    pairs = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *pairs]) + "\n", encoding="utf-8")
