"""Tokenizers on disk, and captions as ids: the same in every process, whatever the last call asked of the tokenizer."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from torch import Tensor

from .clip_vocabulary import shipped_tokenizer
from .weights import reading

FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)
"""Of every tokenizer; each kind has others of its own."""
AT_ONCE = 20_000
"""Characters that the tokenizer is given at once."""
MASK = ".mask"
"""After a text encoder's name: 1 where its ids are of the caption, 0 where they fill it up."""


def load_tokenizer(folder: Path, kind: str | None) -> Any:
    """The tokenizer of the class `kind` of transformers, or of the one that its own config names; from whichever files it has.

    A shipped model's is put together from the vocabulary that is shipped beside it.
    """
    if (shipped := shipped_tokenizer(folder)) is not None:
        return shipped
    import transformers

    named: Any = getattr(transformers, str(kind), None)
    is_known = isinstance(named, type) and issubclass(named, transformers.PreTrainedTokenizerBase)
    loader = named if is_known else transformers.AutoTokenizer
    with reading(folder):
        made = loader.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        if not isinstance(made.model_max_length, int | float):
            raise ValueError(f"model_max_length is {made.model_max_length!r}, which is no number")
        return made


def plain_ids(tokenizer: Any, captions: Sequence[str], most: int | None = None) -> list[list[int]]:
    """The ids of each caption alone, without beginning, end and padding; of a very long one perhaps only the first `most`."""
    found: list[list[int]] = [[] for _ in captions]
    for group in _groups(captions, lambda place: most is not None and len(found[place]) >= most):
        texts = [text for _, text in group]
        ids = tokenizer(texts, add_special_tokens=False, truncation=False, verbose=False).input_ids
        for (place, _), some in zip(group, ids, strict=True):
            found[place] += some
    return found


def _groups(captions: Sequence[str], has_enough: Callable[[int], bool]) -> Iterator[list[tuple[int, str]]]:
    """(place, text) of what is read at once: the tokenizer takes some 400 bytes a token for as long as it reads."""
    group: list[tuple[int, str]] = []
    length = 0
    for place, caption in enumerate(captions):
        for piece in _pieces(caption):
            if group and length + len(piece) > AT_ONCE:
                yield group
                group, length = [], 0
            if has_enough(place):
                break
            group.append((place, piece))
            length += len(piece)
    if group:
        yield group


def _pieces(caption: str) -> Iterator[str]:
    """The caption, where it is very long in pieces that end between words; a word that long has no such place."""
    while len(caption) > AT_ONCE:
        cut = caption.rfind(" ", 1, AT_ONCE)
        cut = AT_ONCE if cut < 0 else cut
        yield caption[:cut]
        caption = caption[cut:]
    yield caption


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
    """A tokenizer that every release reads: CLIP's in both layouts, any other as the files that it came from.

    Only files that tokenizers are made of are copied: whatever else lies there, or a link there leads to, stays there.
    """
    if type(tokenizer).__name__ == "CLIPTokenizer":
        _write_clip(tokenizer, folder)
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name in sorted({*FILES, *tokenizer.vocab_files_names.values()}):
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)


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
