"""Tokenizers on disk, and captions as ids: the same in every process, whatever the last call asked of the tokenizer."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from torch import Tensor

from .clip_vocabulary import shipped_tokenizer
from .weights import reading

MASK = ".mask"
"""After a text encoder's name: 1 where its ids are of the caption, 0 where they fill it up."""


def load_tokenizer(folder: Path, kind: str | None) -> Any:
    """The tokenizer of the class `kind` of transformers, or of the one that its own config names; from whichever files it has.

    A shipped model's is put together from the vocabulary that is shipped beside it.
    """
    if (shipped := shipped_tokenizer(folder)) is not None:
        return shipped
    import transformers

    with reading(folder):
        return getattr(transformers, str(kind), transformers.AutoTokenizer).from_pretrained(
            folder, local_files_only=True
        )


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


@dataclass(frozen=True, slots=True)
class PaddedTokenize:
    """Captions -> ids (B, length) with the tokenizer's own beginning and end, cut and filled up, and their mask (B, length)."""

    name: str
    tokenizer: Any
    length: int
    template: str = "{}"
    """What a caption is put into before it is read."""
    bare_empty: bool = False
    """Whether the empty caption is read without it."""

    def __call__(self, captions: Sequence[str]) -> Mapping[str, Tensor]:
        texts = [
            caption if self.bare_empty and not caption else self.template.replace("{}", caption)
            for caption in captions
        ]  # fmt: skip
        found = self.tokenizer(
            texts, padding="max_length", max_length=self.length, truncation=True, return_tensors="pt"
        )
        return {self.name: found.input_ids, self.name + MASK: found.attention_mask}


@dataclass(frozen=True, slots=True)
class Together:
    """Captions -> what each of several tokenizers makes of them."""

    each: tuple[Any, ...]

    def __call__(self, captions: Sequence[str]) -> Mapping[str, Tensor]:
        return {name: ids for one in self.each for name, ids in one(captions).items()}


def write_tokenizer(tokenizer: Any, source: Path, folder: Path) -> None:
    """A tokenizer that every release reads: CLIP's in both layouts, any other as the files that it came from."""
    if type(tokenizer).__name__ == "CLIPTokenizer":
        _write_clip(tokenizer, folder)
    else:
        shutil.copytree(source, folder, dirs_exist_ok=True)


def _write_clip(tokenizer: Any, folder: Path) -> None:
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
