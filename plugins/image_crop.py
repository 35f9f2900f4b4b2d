"""Which part of a picture is shown and how it is turned over. Masks, and what SDXL is told of the crop, follow."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from core.config.amount import Amount, Within, drawn, in_training_only, is_random
from events import Plugin, PluginSettings, transform
from events.payloads import Crop, SampleContext
from events.plugin import Subscription


class Flip(Plugin):
    """Turn pictures over, left to right or upside down, with a probability; 1 turns all of them, in validation too.

    `data.flip_p` mirrors left to right without a plugin, and a picture's own `flip_p` takes its place: use it for that
    alone. This is for turning upside down, as of textures and views from above, and for data that is to be turned as a
    whole. What is turned twice is as it was.
    """

    class Settings(PluginSettings):
        horizontal: float = Field(0.0, ge=0, le=1, description="probability of left to right")
        vertical: float = Field(0.0, ge=0, le=1, description="probability of upside down")

    def subscriptions(self) -> Iterator[Subscription]:
        settings = self.settings
        is_drawn = any(0 < probability < 1 for probability in (settings.horizontal, settings.vertical))
        return in_training_only(super().subscriptions(), when=is_drawn)

    @transform("sample.crop", priority=60)
    def turn(self, crop: Crop, sample: SampleContext) -> Crop:
        """Behind plugins that choose the part."""
        sides, over = (self._is_turned(p, sample) for p in (self.settings.horizontal, self.settings.vertical))
        return replace(crop, mirrored=crop.mirrored != sides, upside_down=crop.upside_down != over)

    def _is_turned(self, probability: float, sample: SampleContext) -> bool:
        """Certain ones draw nothing, so that caches stay on."""
        return probability == 1 or (probability > 0 and sample.rng.py.random() < probability)


class CropJitter(Plugin):
    """Show a smaller part of the picture, stretched to the bucket (Szegedy et al. 2014, arXiv:1409.4842, section 6).

    The part has `scale` times the area that `data.crop` shows and `aspect` times its aspect, so that an aspect of 1
    stretches nothing; what would reach beyond the picture is cut off, which only brings the aspect nearer to 1. The
    aspect's logarithm is drawn uniformly. `data.crop = "jitter"` moves the crop without making it smaller; this is for
    sizes and places that differ. Large pictures are decoded at a fraction of their size, with just enough pixels for
    the whole: with `data.decode = "full"` a part is as sharp. If anything is drawn, validation goes without.
    """

    class Settings(PluginSettings):
        scale: Annotated[Amount, Within(0.01, 1)] = Field((0.8, 1.0), description="share of the area")
        aspect: Annotated[Amount, Within(0.25, 4)] = Field(
            1.0, description="factor; above 1 shows a wider part, squeezed"
        )
        place: Literal["random", "same"] = Field(
            "random", description="anywhere in the picture, or about the middle of what data.crop shows"
        )

    def subscriptions(self) -> Iterator[Subscription]:
        settings = self.settings
        when = settings.place == "random" or is_random(settings.scale, settings.aspect)
        return in_training_only(super().subscriptions(), when=when)

    @transform("sample.crop")
    def choose(self, crop: Crop, sample: SampleContext) -> Crop:
        scale, aspect = drawn(self.settings.scale, sample.rng), self._aspect(sample)
        left, right = self._part(crop.left, crop.right, math.sqrt(scale * aspect), sample)
        top, bottom = self._part(crop.top, crop.bottom, math.sqrt(scale / aspect), sample)
        return replace(crop, left=left, top=top, right=right, bottom=bottom)

    def _aspect(self, sample: SampleContext) -> float:
        aspect = self.settings.aspect
        return math.exp(sample.rng.py.uniform(*map(math.log, aspect))) if isinstance(aspect, tuple) else aspect

    def _part(self, low: float, high: float, factor: float, sample: SampleContext) -> tuple[float, float]:
        """Along one side of the picture, from 0 to 1."""
        if factor == 1 and self.settings.place == "same":
            return low, high
        length = min(1.0, (high - low) * factor)
        middle = sample.rng.py.random() * (1 - length) if self.settings.place == "random" else (low + high - length) / 2
        start = min(max(0.0, middle), 1 - length)
        return start, start + length
