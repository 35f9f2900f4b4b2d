"""How long a caption is: cut to a random number of its tags or words."""

from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator

from core.sources.tags import joined, parts_of, without_mark
from events import Plugin, PluginSettings, transform
from events.payloads import SampleContext


class RandomLength(Plugin):
    """Cut a caption to a number of tags or words that is drawn for each sample, uniformly from low to high.

    The first ones are left, so behind ShuffleTags they are random ones. Those that are kept count too and are never
    cut. A caption that is no longer than the number stays as it is. In validation none is cut.
    """

    reads = ("keep_tags",)

    class Settings(PluginSettings):
        low: PositiveInt = Field(1, description="fewest that are left, if the caption has so many")
        high: PositiveInt = Field(10, description="most that are left")
        unit: Literal["tags", "words"] = Field("tags", description="what is counted")
        separator: str = Field(",", min_length=1, description="between tags")
        keep: int = Field(1, ge=0, description="at the front, never cut; of tags, an item's keep_tags takes its place")
        keep_separator: str = Field("", description="where a caption has it, all before it stay; it is taken out")

        @model_validator(mode="after")
        def _ordered(self) -> Self:
            if self.low > self.high:
                raise ValueError(f"low = {self.low} is above high = {self.high}")
            return self

    @transform("sample.caption", priority=64, training_only=True)
    def cut(self, caption: str, sample: SampleContext) -> str:
        count = sample.rng.py.randint(self.settings.low, self.settings.high)
        if self.settings.unit == "words":
            return self._first_words(caption, count)
        parts = parts_of(caption, self.settings, sample.settings.keep_tags)
        left = max(0, count - len(parts.kept))
        return caption if left >= len(parts.others) else joined(parts, parts.others[:left], self.settings)

    @transform("sample.caption", priority=70)
    def take_out(self, caption: str, sample: SampleContext) -> str:
        """Behind plugins that look for it too, and in validation."""
        return without_mark(caption, self.settings)

    def _first_words(self, caption: str, count: int) -> str:
        mark = self.settings.keep_separator.strip()
        pieces = (caption.replace(mark, f" {mark} ") if mark else caption).split()
        words = [place for place, piece in enumerate(pieces) if piece != mark]
        left = max(count, pieces.index(mark) if mark in pieces else self.settings.keep)
        return caption if left >= len(words) else " ".join(pieces[: words[left]]).rstrip(f"{self.settings.separator};:")
