"""What can be done to a picture's colours before it is cropped."""

import math
from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from events import Plugin, PluginSettings, transform
from events.payloads import SampleContext

if TYPE_CHECKING:
    from PIL import Image


class Gamma(Plugin):
    """Raise every channel to a power: v <- 255 (v / 255)^gamma on the stored values. Above 1 is darker.

    The power is drawn for each sample, its logarithm uniformly, so that brightening is as likely as darkening.
    """

    class Settings(PluginSettings):
        low: float = Field(0.8, gt=0, description="smallest power")
        high: float = Field(1.25, gt=0, description="largest power; the same as low for a fixed one")

        @model_validator(mode="after")
        def _ordered(self) -> Self:
            if self.low > self.high:
                raise ValueError(f"low = {self.low} is above high = {self.high}")
            return self

    @transform("sample.image")
    def correct(self, image: "Image.Image", sample: SampleContext) -> "Image.Image":
        power = math.exp(sample.rng.py.uniform(math.log(self.settings.low), math.log(self.settings.high)))
        table = [round(255 * (value / 255) ** power) for value in range(256)]
        return image.convert("RGB").point(table * 3)
