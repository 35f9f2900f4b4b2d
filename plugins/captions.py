"""What can be done to a caption, in this order unless the config says otherwise. An empty caption stays empty."""

import re
from math import inf, log
from random import Random

from pydantic import Field, PositiveInt

from core.sources.tags import joined, parts_of, without_mark
from events import Plugin, PluginSettings, transform
from events.payloads import SampleContext


class Affix(Plugin):
    """Put words before or behind every caption, and each line of one that has several."""

    class Settings(PluginSettings):
        prefix: str = Field("", description="written before the caption, as it is")
        suffix: str = Field("", description="written behind it")

    @transform("sample.caption", priority=20)
    def affix(self, caption: str, sample: SampleContext) -> str:
        prefix, suffix = self.settings.prefix, self.settings.suffix
        return "\n".join(f"{prefix}{line}{suffix}" for line in caption.split("\n")) if caption else ""


class DropCaption(Plugin):
    """Train on the empty caption now and then, for classifier-free guidance (Ho and Salimans 2022, 2207.12598).

    An item's `cond_dropout` takes the place of the probability.
    """

    reads = ("cond_dropout",)

    class Settings(PluginSettings):
        probability: float = Field(0.1, ge=0, le=1, description="share of the samples")

    @transform("sample.caption", priority=30, training_only=True)
    def drop(self, caption: str, sample: SampleContext) -> str:
        own = sample.settings.cond_dropout
        return "" if sample.rng.py.random() < (self.settings.probability if own is None else own) else caption


class ChooseLine(Plugin):
    """Take one line of a caption with several, at random; `data.caption_lines = "choose"` keeps them all."""

    reads = ("caption_lines",)

    @transform("sample.caption", priority=40)
    def choose(self, caption: str, sample: SampleContext) -> str:
        lines = [line for line in caption.split("\n") if line]
        return sample.rng.py.choice(lines) if len(lines) > 1 else "".join(lines)


class Wildcards(Plugin):
    """Take one of the alternatives in `{a|b|c}`, at random; they may hold further ones. `{a}` stays as it is."""

    @transform("sample.caption", priority=42)
    def choose(self, caption: str, sample: SampleContext) -> str:
        return _without_wildcards(caption, sample.rng.py) if "{" in caption else caption


class ShuffleTags(Plugin):
    """Shuffle the tags of a caption, keeping the first few where they are.

    An item's `shuffle_tags` says whether, and its `keep_tags` how many stay. Where tags have weights, heavier ones tend
    to come first: they are drawn one after another, each with a chance in proportion to its weight among those left
    (Efraimidis and Spirakis 2006, Information Processing Letters 97(5), algorithm A). In validation nothing moves.
    """

    reads = ("shuffle_tags", "keep_tags", "tag_weights")

    class Settings(PluginSettings):
        separator: str = Field(",", min_length=1, description="between tags")
        keep: int = Field(1, ge=0, description="tags at the front that stay; an item's keep_tags takes its place")
        keep_separator: str = Field("", description="where a caption has it, all before it stay; it is taken out")
        always: bool = Field(True, description="shuffle items too that do not say shuffle_tags")

    @transform("sample.caption", priority=50, training_only=True)
    def shuffle(self, caption: str, sample: SampleContext) -> str:
        own = sample.settings.shuffle_tags
        if not (self.settings.always if own is None else own):
            return caption
        parts = parts_of(caption, self.settings, sample.settings.keep_tags)
        tags = parts.others
        weights = sample.settings.tag_weights
        if any(tag in weights for tag in tags):
            tags = _heavier_first(tags, [weights.get(tag, 1.0) for tag in tags], sample.rng.py)
        else:
            sample.rng.py.shuffle(tags)
        return joined(parts, tags, self.settings)

    @transform("sample.caption", priority=70)
    def take_out(self, caption: str, sample: SampleContext) -> str:
        """Behind DropTags, which looks for it too, and in validation."""
        return without_mark(caption, self.settings)


class DropTags(Plugin):
    """Leave out each tag at random, except the first few and the protected ones. In validation all stay."""

    reads = ("keep_tags",)

    class Settings(PluginSettings):
        probability: float = Field(0.1, ge=0, le=1, description="share of the tags")
        separator: str = Field(",", min_length=1, description="between tags")
        keep: int = Field(1, ge=0, description="tags at the front that stay; an item's keep_tags takes its place")
        keep_separator: str = Field("", description="where a caption has it, all before it stay; it is taken out")
        protected: tuple[str, ...] = Field((), description="tags that are never left out")

    @transform("sample.caption", priority=60, training_only=True)
    def drop(self, caption: str, sample: SampleContext) -> str:
        parts = parts_of(caption, self.settings, sample.settings.keep_tags)
        draws = [sample.rng.py.random() for _ in parts.others]
        left = [
            tag
            for tag, draw in zip(parts.others, draws, strict=True)
            if draw >= self.settings.probability or tag in self.settings.protected
        ]
        return joined(parts, left, self.settings)

    @transform("sample.caption", priority=70)
    def take_out(self, caption: str, sample: SampleContext) -> str:
        return without_mark(caption, self.settings)


class LimitCaption(Plugin):
    """Cut long captions: at the last comma of their second half, else behind the last whole word.

    An item's `max_caption_length` takes the place of the setting.
    """

    reads = ("max_caption_length",)

    class Settings(PluginSettings):
        max_caption_length: PositiveInt | None = Field(None, description="in characters; none is cut unless given")

    @transform("sample.caption", priority=80)
    def cut(self, caption: str, sample: SampleContext) -> str:
        own = sample.settings.max_caption_length
        limit = self.settings.max_caption_length if own is None else own
        if limit is None or len(caption) <= limit:
            return caption
        comma = caption.rfind(",", limit // 2, limit + 1)
        word = max((place for place in range(limit + 1) if caption[place].isspace()), default=0)
        return caption[: comma if comma > 0 else word or limit].rstrip(", \t\n") or caption[:limit]


def _heavier_first(tags: list[str], weights: list[float], random: Random) -> list[str]:
    """By falling log(u) / w with u uniform in (0, 1], which orders them as u^(1/w) does without underflow."""
    keys = [log(1.0 - random.random()) / weight if weight > 0 else -inf for weight in weights]
    order = sorted(range(len(tags)), key=keys.__getitem__, reverse=True)
    return [tags[place] for place in order]


def _without_wildcards(text: str, random: Random) -> str:
    """Each `{...|...}` replaced by one of its parts, inner ones first. A brace without its partner is text."""
    groups: list[list[list[str]]] = [[[]]]  # pieces of the alternatives, of the text and of each group open in it
    for piece in re.split(r"([{|}])", text):
        if piece == "{":
            groups.append([[]])
        elif piece == "|" and len(groups) > 1:
            groups[-1].append([])
        elif piece == "}" and len(groups) > 1:
            alternatives = groups.pop()
            groups[-1][-1] += random.choice(alternatives) if len(alternatives) > 1 else ["{", *alternatives[0], "}"]
        else:
            groups[-1][-1].append(piece)
    while len(groups) > 1:
        alternatives = groups.pop()
        groups[-1][-1] += ["{", "|".join("".join(pieces) for pieces in alternatives)]
    return "".join(groups[0][0])
