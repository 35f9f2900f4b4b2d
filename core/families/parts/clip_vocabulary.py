"""CLIP's vocabulary, which comes with this trainer for models that are one file: its merges, and the ids that follow.

Byte-pair encoding over bytes (Radford et al. 2021, arXiv:2103.00020, 2.4): each byte has a letter; each letter is a token,
and another where a word ends with it; then each merge makes one; the beginning and the end come last.
"""

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

from .standard import STANDARD
from .weights import reading

Merge = tuple[str, str]
WORD_END, BEGIN, END = "</w>", "<|startoftext|>", "<|endoftext|>"
MERGES = "merges"
"""The key of a tokenizer_config.json that says where its merges lie, seen from the folder of all shipped models."""


def shipped_tokenizer(folder: Path) -> Any | None:
    """The tokenizer of a shipped model's folder; None for a folder that has files of its own."""
    path = folder / "tokenizer_config.json"
    if not path.is_file():
        return None
    with reading(path):
        settings = json.loads(path.read_text(encoding="utf-8"))
    if MERGES not in settings or not folder.resolve().is_relative_to(STANDARD):
        return None
    from transformers import CLIPTokenizer

    settings.pop("tokenizer_class")
    merges = read_merges(folder.parent.parent / settings.pop(MERGES))
    return CLIPTokenizer(vocab=vocabulary_of(merges), merges=list(merges), **settings)


@cache
def read_merges(path: Path) -> tuple[Merge, ...]:
    """Of a compressed merges.txt, whose first line is its version."""
    lines = gzip.decompress(path.read_bytes()).decode("utf-8").splitlines()[1:]
    return tuple((left, right) for left, right in (line.split(" ") for line in lines))


def vocabulary_of(merges: tuple[Merge, ...]) -> dict[str, int]:
    """Tokens by their ids, 49408 of them for CLIP's own merges."""
    letters = byte_letters()
    tokens = [*letters, *(letter + WORD_END for letter in letters), *(a + b for a, b in merges), BEGIN, END]
    return {token: number for number, token in enumerate(tokens)}


def byte_letters() -> list[str]:
    """A printable letter for each of the 256 bytes: first those that are one, then the others, moved up beyond them.

    >>> letters = byte_letters()
    >>> letters[0], letters[-1], len(set(letters))
    ('!', 'Ń', 256)
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in printable] + [chr(256 + number) for number in range(256 - len(printable))]
