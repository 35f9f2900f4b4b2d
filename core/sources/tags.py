"""Tags of a caption: taken apart, and put together again."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class TagRules(Protocol):
    """How a caption is taken apart; the settings of a plugin."""

    @property
    def separator(self) -> str:
        """Between tags."""

    @property
    def keep(self) -> int:
        """How many at the front are kept."""

    @property
    def keep_separator(self) -> str:
        """In a caption that has it, all before it are kept in place of the first few; empty: it means nothing."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Of a caption."""

    kept: list[str]
    """Tags that stay where they are."""
    is_marked: bool
    """Whether the keep separator is behind them."""
    others: list[str]


def parts_of(caption: str, rules: TagRules, own_keep: int | None) -> Parts:
    """`own_keep` is what the item says in the place of `rules.keep`."""
    if rules.keep_separator and rules.keep_separator in caption:
        before, _, behind = caption.partition(rules.keep_separator)
        return Parts(tags_of(before, rules.separator), True, tags_of(behind, rules.separator))
    tags, count = tags_of(caption, rules.separator), rules.keep if own_keep is None else own_keep
    return Parts(tags[:count], False, tags[count:])


def tags_of(text: str, separator: str) -> list[str]:
    """Without the blanks around them and without empty ones.

    >>> tags_of("a cat , , sofa", ",")
    ['a cat', 'sofa']
    """
    return [tag for tag in (part.strip() for part in text.split(separator)) if tag]


def joined(parts: Parts, others: Sequence[str], rules: TagRules) -> str:
    """A caption of the kept tags and these others."""
    glue = f"{rules.separator} "
    if parts.is_marked:
        return f"{glue.join(parts.kept)} {rules.keep_separator} {glue.join(others)}"
    return glue.join([*parts.kept, *others])


def without_mark(caption: str, rules: TagRules) -> str:
    """The keep separator becomes one between tags."""
    if not rules.keep_separator or rules.keep_separator not in caption:
        return caption
    parts = [tag for part in caption.split(rules.keep_separator) for tag in tags_of(part, rules.separator)]
    return f"{rules.separator} ".join(parts)
