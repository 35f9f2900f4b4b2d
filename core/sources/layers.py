"""A layer: what one file says about a picture. Layers add up, the most specific last, to its caption and settings."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

from events.payloads import Item, ItemSettings

from .found import Found

MAX_CHARACTERS = 1_000_000
"""Of one caption."""
NO_SETTINGS: Mapping[str, Any] = MappingProxyType({})
Tag = tuple[str, float | None]
"""With its weight, where it has one; the weight of the others is 1."""


class Unusable(ValueError):
    """A file, or something in it, that cannot be used. The text says why, without the file's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """What one file says, or several together."""

    source: str = ""
    """What gave the prompt or, without one, the tags: `.txt`, `local.yaml` and so on."""
    prompt: str | None = None
    """The whole text; None where nothing is said, which an empty text is not."""
    tags: tuple[Tag, ...] = ()
    """Each once, the most specific first."""
    settings: Mapping[str, Any] = field(default_factory=lambda: NO_SETTINGS)
    """By field of ItemSettings, checked; `tag_weights` are those of the tags."""

    @property
    def has_words(self) -> bool:
        """Whether it says anything about the caption."""
        return self.prompt is not None or bool(self.tags)


def merge(layers: Iterable[Layer]) -> Layer:
    """One layer that says what these say together; the last of them is the most specific.

    >>> merge([Layer(source="a", prompt="x", tags=(("t", 2.0),)), Layer(source="b", tags=(("u", None), ("t", None)))])
    Layer(source='a', prompt='x', tags=(('u', None), ('t', None)), settings=mappingproxy({}))
    """
    source, prompt = "", None
    tags: tuple[Tag, ...] = ()
    settings = NO_SETTINGS
    for layer in layers:
        if layer.prompt is not None or (prompt is None and layer.tags):
            source = layer.source
        prompt = prompt if layer.prompt is None else layer.prompt
        tags = _union(layer.tags, tags)
        settings = _override(settings, layer.settings)
    return Layer(source=source, prompt=prompt, tags=tags, settings=settings)


def without_words(layer: Layer) -> Layer:
    """Its settings alone."""
    return replace(layer, source="", prompt=None, tags=())


def caption_of(layer: Layer, lines: Literal["first", "choose"]) -> str:
    """The main prompt, then the tags, heavier ones first. With "choose" each line of the prompt has the tags behind it.

    Raises Unusable when that makes more than MAX_CHARACTERS.
    """
    tags = ", ".join(tag for tag, _ in sorted(layer.tags, key=_weight, reverse=True))
    stripped = [line.strip() for line in (layer.prompt or "").strip().splitlines()]
    kept = stripped[:1] if lines == "first" else [line for line in stripped if line]
    length = len(kept) * (len(tags) + 3) + sum(map(len, kept))
    if length > MAX_CHARACTERS:
        raise Unusable(f"the caption has {length:,} characters with its tags; at most {MAX_CHARACTERS:,} are read")
    return "\n".join(", ".join(part for part in (line, tags) if part) for line in kept or [""])


def settings_of(layer: Layer) -> ItemSettings:
    """What a picture of this layer is trained with."""
    weights = {tag: weight for tag, weight in layer.tags if weight is not None}
    return ItemSettings(**layer.settings, tag_weights=weights)


def settings_in_use(found: Found | Item) -> frozenset[str]:
    """What an item asks of plugins, so that it would be without effect if no plugin read it.

    Of `cond_dropout`, `shuffle_tags`, `keep_tags`, `max_caption_length`, `caption_lines` (a caption of several lines)
    and `mask`. The core itself reads `multiply`, `loss_scale`, `flip_p`, `batch_id` and `no_upscale`; nothing needs to
    follow from `rating` and the weights of tags.
    """
    settings = found.settings
    longest = max(map(len, found.caption.split("\n")))
    asked = {
        "cond_dropout": bool(settings.cond_dropout),
        "shuffle_tags": bool(settings.shuffle_tags),
        "keep_tags": bool(settings.shuffle_tags and settings.keep_tags),
        "max_caption_length": settings.max_caption_length is not None and longest > settings.max_caption_length,
        "caption_lines": "\n" in found.caption,
        "mask": found.mask != "",
    }
    return frozenset(name for name, is_asked in asked.items() if is_asked)


def _override(general: Mapping[str, Any], specific: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**general, **specific} if general and specific else specific or general


def _union(specific: tuple[Tag, ...], general: tuple[Tag, ...]) -> tuple[Tag, ...]:
    if not (specific and general):
        return specific or general
    tags = dict(specific)
    for tag, weight in general:
        tags.setdefault(tag, weight)
    return tuple(tags.items())


def _weight(tag: Tag) -> float:
    return 1.0 if tag[1] is None else tag[1]
