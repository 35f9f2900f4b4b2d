"""What lists of words do to a caption: some are replaced, some left out, some added. An empty caption stays empty."""

import re
from collections.abc import Iterable
from typing import Literal, Self

from pydantic import Field, PositiveInt, field_validator, model_validator

from core.sources.tags import tags_of
from events import Plugin, PluginSettings, TextFile, transform
from events.payloads import SampleContext

ARROW = "=>"


class ReplaceWords(Plugin):
    """Put other words in the place of words and phrases: whole ones only, the longest first.

    All are looked for at once, so what has been put in is not replaced again and two words can change places. Blanks of
    a phrase stand for any blanks within a line. Validation is told the same words.
    """

    class Settings(PluginSettings):
        words: dict[str, str] = Field(
            default_factory=dict, description='what to replace, by what: { lorry = "truck", "t shirt" = "T-shirt" }'
        )
        file: TextFile | None = Field(
            None, description="more of them, a line each: `old => new`; # begins a comment, and `words` wins"
        )
        ignore_case: bool = Field(True, description="find them in small and large letters; the new ones stay as given")

        @model_validator(mode="after")
        def _something(self) -> Self:
            if not self.pairs():
                raise ValueError("nothing is to be replaced; give words or a file")
            return self

        @field_validator("words")
        @classmethod
        def _whole(cls, words: dict[str, str]) -> dict[str, str]:
            if wrong := [old for old, new in words.items() if not old.strip() or not new.strip()]:
                raise ValueError(
                    f"{wrong[0]!r}: a word and what takes its place are both needed; RemoveWords leaves out"
                )
            return words

        def pairs(self) -> dict[str, str]:
            """New words by old ones, of settings and file. Raises ValueError with the line that cannot be read."""
            of_file = _pairs_of(self.file, ignore_case=self.ignore_case) if self.file else {}
            return self.words | {old: new for old, new in of_file.items() if old not in self.words}

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        super().__init__(settings, name=name)
        pairs = sorted(self.settings.pairs().items(), key=lambda pair: -len(pair[0]))
        self._new = [new for _, new in pairs]
        self._pattern = _whole_words((old for old, _ in pairs), ignore_case=self.settings.ignore_case)

    @transform("sample.caption", priority=44)
    def replace(self, caption: str, sample: SampleContext) -> str:
        return self._pattern.sub(lambda found: self._new[(found.lastindex or 1) - 1], caption)


class RemoveWords(Plugin):
    """Leave out words and phrases, or whole tags, wherever they are; what is left is closed up.

    Separators with nothing between them go too, and so do doubled blanks. Validation goes without the words as well.
    """

    class Settings(PluginSettings):
        words: tuple[str, ...] = Field((), description="what to leave out")
        file: TextFile | None = Field(None, description="more of them, one a line; # begins a comment")
        what: Literal["words", "tags"] = Field(
            "words", description="words wherever they stand, or tags that are just that"
        )
        ignore_case: bool = Field(True, description="find them in small and large letters")
        separator: str = Field(",", min_length=1, description="between tags")

        @model_validator(mode="after")
        def _something(self) -> Self:
            if not self.all_words():
                raise ValueError("nothing is to be left out; give words or a file")
            return self

        def all_words(self) -> tuple[str, ...]:
            """Of settings and file."""
            return _all_words(self.words, self.file)

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        super().__init__(settings, name=name)
        words = sorted(self.settings.all_words(), key=len, reverse=True)
        self._pattern = _whole_words(words, ignore_case=self.settings.ignore_case)

    @transform("sample.caption", priority=46)
    def remove(self, caption: str, sample: SampleContext) -> str:
        if self.settings.what == "tags":
            return self._without_tags(caption)
        left, count = self._pattern.subn("", caption)
        return "\n".join(self._closed_up(line) for line in left.split("\n")) if count else caption

    def _without_tags(self, caption: str) -> str:
        tags = tags_of(caption, self.settings.separator)
        left = [tag for tag in tags if not self._pattern.fullmatch(tag)]
        return f"{self.settings.separator} ".join(left) if len(left) < len(tags) else caption

    def _closed_up(self, line: str) -> str:
        tags = tags_of(re.sub(r"\s+([.;:!?](?:\s|$))", r"\1", " ".join(line.split())), self.settings.separator)
        return f"{self.settings.separator} ".join(tags)


class AddWords(Plugin):
    """Add words of a list, drawn for each sample, before the caption, behind it or between its tags.

    One that the caption has as a tag already is not added. In validation none are.
    """

    class Settings(PluginSettings):
        words: tuple[str, ...] = Field((), description="what to draw from")
        file: TextFile | None = Field(None, description="more of them, one a line; # begins a comment")
        place: Literal["front", "back", "among"] = Field(
            "back", description="among: each at a random place between tags"
        )
        probability: float = Field(1.0, ge=0, le=1, description="share of the samples that are given any")
        count: PositiveInt = Field(1, description="how many are added, each a different one")
        separator: str = Field(",", min_length=1, description="between tags")

        @model_validator(mode="after")
        def _enough(self) -> Self:
            there = len(self.all_words())
            if there < self.count:
                raise ValueError(f"count = {self.count}, but words and file have {there} to draw from")
            return self

        def all_words(self) -> tuple[str, ...]:
            """Of settings and file."""
            return _all_words(self.words, self.file)

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        super().__init__(settings, name=name)
        self._words = self.settings.all_words()

    @transform("sample.caption", priority=66, training_only=True)
    def add(self, caption: str, sample: SampleContext) -> str:
        """Behind dropping, shuffling and cutting, so that what is added is there in the end."""
        random, settings = sample.rng.py, self.settings
        if not caption or random.random() >= settings.probability:
            return caption
        tags, glue = tags_of(caption, settings.separator), f"{settings.separator} "
        there = {tag.casefold() for tag in tags}
        left = [word for word in self._words if word.casefold() not in there]
        added = random.sample(left, min(settings.count, len(left)))
        if settings.place != "among":
            return glue.join([*added, caption] if settings.place == "front" else [caption, *added])
        for word in added:
            tags.insert(random.randint(0, len(tags)), word)
        return glue.join(tags) if added else caption


def _whole_words(words: Iterable[str], *, ignore_case: bool) -> re.Pattern[str]:
    """Matches any of these between what is neither letter, digit nor _; the group that matched tells which, from 1."""
    blanks = r"[^\S\n]+"
    any_of = "|".join(f"({blanks.join(map(re.escape, word.split()))})" for word in words)
    return re.compile(rf"(?<!\w)(?:{any_of})(?!\w)", re.IGNORECASE if ignore_case else re.NOFLAG)


def _all_words(words: tuple[str, ...], file: TextFile | None) -> tuple[str, ...]:
    """Of settings and file, each once. Raises ValueError for an empty one."""
    if any(not word.strip() for word in words):
        raise ValueError("words: an empty one is no word")
    lines = [line for _, line in file.lines()] if file else []
    return tuple(dict.fromkeys([word.strip() for word in words] + lines))


def _pairs_of(file: TextFile, *, ignore_case: bool) -> dict[str, str]:
    """New words by old ones. Raises ValueError with file and line."""
    pairs: dict[str, str] = {}
    seen: dict[str, int] = {}
    for number, line in file.lines():
        old, *news = (side.strip() for side in line.split(ARROW))
        if len(news) != 1 or not old:
            raise ValueError(f"{file.at(number)}: {line!r} is not of the form old {ARROW} new")
        if not news[0]:
            raise ValueError(f"{file.at(number)}: nothing stands behind {ARROW}; RemoveWords leaves words out")
        key = old.casefold() if ignore_case else old
        if key in seen:
            raise ValueError(f"{file.at(number)}: {old!r} is there already, in line {seen[key]}")
        seen[key] = number
        pairs[old] = news[0]
    return pairs
