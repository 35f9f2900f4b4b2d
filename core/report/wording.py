"""What changed from one caption to the next: word by word, or tag by tag where tags only changed places."""

import re
from collections import Counter
from collections.abc import Iterator
from difflib import SequenceMatcher
from typing import Literal, NamedTuple

PIECE = re.compile(r"\s+|\w+|[^\w\s]")
TAG = re.compile(r"[^,\s][^,]*(?<!\s)|[,\s]+")
"""A tag, or what stands between two."""
MOST_PIECES = 1500
"""Longer captions are shown without the difference, which takes time with the square of the length."""
Kind = Literal["same", "added", "removed", "moved"]


class Run(NamedTuple):
    """Words that belong together."""

    kind: Kind
    text: str


def wording(before: str, after: str) -> tuple[Run, ...]:
    """The later caption in runs; what is gone stands where it was.

    >>> wording("a red fox", "a fox")
    (Run(kind='same', text='a '), Run(kind='removed', text='red '), Run(kind='same', text='fox'))
    >>> [run.text for run in wording("a, b c, d", "a, d, b c") if run.kind == "moved"]
    ['d']
    """
    tags = [TAG.findall(text) for text in (before, after)]
    if Counter(filter(_is_word, tags[0])) == Counter(filter(_is_word, tags[1])) and before != after:
        return tuple(_moved(*tags))
    old, new = PIECE.findall(before), PIECE.findall(after)
    if max(len(old), len(new)) > MOST_PIECES:
        return (Run("same" if before == after else "added", after),)
    return tuple(_replaced(old, new))


def _moved(old: list[str], new: list[str]) -> Iterator[Run]:
    """What stands at another place among the tags; what stands between them is none of them."""
    before, after = ([piece for piece in pieces if _is_word(piece)] for pieces in (old, new))
    stay = set[int]()
    if len(after) <= MOST_PIECES:
        for block in SequenceMatcher(None, before, after, autojunk=False).get_matching_blocks():
            stay |= set(range(block.b, block.b + block.size))
    place = -1
    for piece in new:
        place += _is_word(piece)
        yield Run("moved" if _is_word(piece) and place not in stay else "same", piece)


def _replaced(old: list[str], new: list[str]) -> Iterator[Run]:
    for kind, start, end, new_start, new_end in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            yield Run("same", "".join(new[new_start:new_end]))
            continue
        if end > start:
            yield Run("removed", "".join(old[start:end]))
        if new_end > new_start:
            yield Run("added", "".join(new[new_start:new_end]))


def _is_word(piece: str) -> bool:
    return piece[0] != "," and not piece[0].isspace()
