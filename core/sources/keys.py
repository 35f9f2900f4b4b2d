"""The keys that files beside pictures may have, and what each may be set to."""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from math import inf
from reprlib import Repr
from types import MappingProxyType
from typing import Any

from .layers import MAX_CHARACTERS, NO_SETTINGS, Layer, Tag, Unusable

PROMPT_KEYS = ("main_prompt", "caption", "text", "prompt")
"""Names of the main prompt; the first that is there counts."""
NOT_TEXT = re.compile("[\0\ud800-\udfff]")
MAX_WEIGHT = 1_000
"""Of a tag."""


def layer_of(source: str, values: Mapping[Any, Any], ignore: Collection[str] = ()) -> Layer:
    """What a mapping of keys says. Keys that are not ours mean nothing here, and neither does a value of None.

    Raises Unusable with every key whose value is of a wrong type or out of range. The settings in `ignore` are not
    looked at.
    """
    settings: dict[str, Any] = {}
    wrong: list[str] = []
    for key, rule in SETTINGS.items():
        value = values.get(key)
        if value is None or value == "" or key in ignore:
            continue
        try:
            settings[key] = rule.read(value)
        except (ValueError, OverflowError):
            wrong.append(f"{key} is {shown(value)}; allowed is {rule.allowed}")
    prompt: str | None = None
    tags: tuple[Tag, ...] = ()
    try:
        prompt = prompt_of(values)
        tags = tags_of(values.get("tags"), weighted="tag_weights" not in ignore)
    except Unusable as error:
        wrong.append(str(error))
    if wrong:
        raise Unusable(", and ".join(wrong))
    return Layer(source=source, prompt=prompt, tags=tags, settings=settings or NO_SETTINGS)


def prompt_of(values: Mapping[Any, Any]) -> str | None:
    """The main prompt, or None where there is none. Raises Unusable when it is no text."""
    key = next((key for key in PROMPT_KEYS if values.get(key) is not None), "")
    return checked_text(values[key], key) if key else None


def tags_of(value: object, *, weighted: bool = True) -> tuple[Tag, ...]:
    """The tags of a text with commas, or of a list of texts and of objects with `tag` and `weight`, each once.

    Raises Unusable naming the tag that is neither, or whose weight is no number from 0 to MAX_WEIGHT.
    """
    entries = value if isinstance(value, list | tuple) else [] if value is None else [value]
    tags: dict[str, float | None] = {}
    for number, entry in enumerate(entries, start=1):
        text, weight = entry, None
        if isinstance(entry, Mapping):
            text, weight = entry.get("tag"), entry.get("weight")
        if weight is not None:
            try:
                weight = number_of(weight, 0, MAX_WEIGHT)
            except (ValueError, OverflowError):
                raise Unusable(
                    f"tags: the weight of tag {number} is {shown(weight)}; allowed is a number from 0 to {MAX_WEIGHT:,}"
                ) from None
        for tag in checked_text(text, f"tags: tag {number}").split(","):
            tags.setdefault(" ".join(tag.split()), weight if weighted else None)
    tags.pop("", None)
    return tuple(tags.items())


def checked_text(value: object, name: str) -> str:
    """Raises Unusable for what is no text, or has characters that no tokenizer takes, or too many of them."""
    if not isinstance(value, str):
        raise Unusable(f"{name} is {shown(value)}; it must be text, so put it in quotes")
    if len(value) > MAX_CHARACTERS:
        raise Unusable(f"{name} has {len(value):,} characters; at most {MAX_CHARACTERS:,} are read")
    bad = NOT_TEXT.search(value)
    if bad:
        what = "a NUL character" if bad[0] == "\0" else "half of a surrogate pair"
        raise Unusable(f"{name} has {what} at character {bad.start()}; take it out")
    return value


def shown(value: object) -> str:
    """A value in a message: short and on one line."""
    short = Repr()
    short.maxstring = short.maxother = 40
    try:
        return short.repr(value)
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        return "too large a number"


@lru_cache(maxsize=4096)
def intended(key: str, *, words: bool) -> str:
    """The key that a misspelt one was meant to be, or nothing; only `words` looks at prompts and tags too.

    >>> intended("cond_droput", words=False), intended("attribution", words=True), intended("multiply", words=True)
    ('cond_dropout', '', '')
    """
    ours = (*SETTINGS, *PROMPT_KEYS, "tags")
    known = ours if words else (*SETTINGS, "main_prompt")
    return "" if key in ours else next(iter(get_close_matches(key.lower(), known, n=1, cutoff=0.8)), "")


def number_of(value: object, low: float, high: float) -> float:
    """A finite number within the bounds, also written as text. Raises ValueError or OverflowError."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError
    number = float(value)
    if not low <= number <= high or number in (inf, -inf):
        raise ValueError
    return number


@dataclass(frozen=True, slots=True)
class Rule:
    """How a setting is read, and what a message says is allowed. `read` raises ValueError or OverflowError."""

    read: Callable[[Any], object]
    allowed: str


def _whole(value: object, low: int) -> int:
    number = number_of(value, low, 1 << 31)
    if number != int(number):
        raise ValueError
    return int(number)


def _flag(value: object) -> bool:
    words = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    word = str(value).strip().lower() if isinstance(value, bool | int | str) else ""
    if word not in words:
        raise ValueError
    return words[word]


def _name(value: object) -> str:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return checked_text(str(value) if is_number else value, "it").strip()


_SHARE = Rule(lambda value: number_of(value, 0, 1), "a number from 0 to 1")
SETTINGS: Mapping[str, Rule] = MappingProxyType(
    {
        "multiply": Rule(lambda value: number_of(value, 0, 10_000), "a number from 0 to 10,000"),
        "cond_dropout": _SHARE,
        "flip_p": _SHARE,
        "loss_scale": Rule(lambda value: number_of(value, 0, inf), "a number from 0"),
        "shuffle_tags": Rule(_flag, "true or false"),
        "keep_tags": Rule(lambda value: _whole(value, 0), "a whole number from 0"),
        "max_caption_length": Rule(lambda value: _whole(value, 1), "a whole number from 1"),
        "batch_id": Rule(_name, "a name"),
        "rating": Rule(lambda value: number_of(value, -inf, inf), "a number"),
        "no_upscale": Rule(_flag, "true or false"),
    }
)
"""The settings that files may give, by field of ItemSettings."""
