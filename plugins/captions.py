"""What can be done to a caption: a prefix or suffix, shuffled tags, dropped captions. Their order is their priority."""

from pydantic import Field

from events import Plugin, PluginSettings, transform
from events.payloads import SampleContext


class Affix(Plugin):
    """Put words before or behind every caption."""

    class Settings(PluginSettings):
        prefix: str = Field("", description="written before the caption, as it is")
        suffix: str = Field("", description="written behind it")

    @transform("sample.caption", priority=20)
    def affix(self, caption: str, sample: SampleContext) -> str:
        return f"{self.settings.prefix}{caption}{self.settings.suffix}"


class ShuffleTags(Plugin):
    """Shuffle the tags of a caption, keeping the first few where they are."""

    class Settings(PluginSettings):
        separator: str = Field(",", min_length=1, description="between tags")
        keep: int = Field(1, ge=0, description="tags at the front that stay")

    @transform("sample.caption", priority=50)
    def shuffle(self, caption: str, sample: SampleContext) -> str:
        separator: str = self.settings.separator
        tags = [tag.strip() for tag in caption.split(separator)]
        head, rest = tags[: self.settings.keep], tags[self.settings.keep :]
        sample.rng.py.shuffle(rest)
        return f"{separator} ".join(head + rest)


class DropCaption(Plugin):
    """Train on the empty caption now and then, for classifier-free guidance (Ho and Salimans 2022, 2207.12598)."""

    class Settings(PluginSettings):
        probability: float = Field(0.1, ge=0, le=1, description="share of the samples")

    @transform("sample.caption", priority=90)
    def drop(self, caption: str, sample: SampleContext) -> str:
        return "" if sample.rng.py.random() < self.settings.probability else caption
