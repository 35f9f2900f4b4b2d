"""What can be done to a picture's colours before it is cropped: brightness by a power, and hue, saturation, lightness."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, model_validator

from core.config.amount import Amount, Within, drawn, in_training_only, is_random
from events import Plugin, PluginSettings, transform
from events.payloads import SampleContext
from events.plugin import Subscription

if TYPE_CHECKING:
    from PIL import Image

PIXELS_AT_ONCE = 1 << 15
"""So many that what is worked out of them stays in the processor's cache."""


class Gamma(Plugin):
    """Raise every channel to a power: v <- 255 (v / 255)^gamma on the stored values. Above 1 is darker.

    The power is drawn for each sample, its logarithm uniformly, so that brightening is as likely as darkening; then
    validation goes without. A fixed one, low the same as high, is for all pictures, and nothing is drawn. It takes
    3 ms for a megapixel.
    """

    class Settings(PluginSettings):
        low: float = Field(0.8, gt=0, description="smallest power")
        high: float = Field(1.25, gt=0, description="largest power; the same as low for a fixed one")

        @model_validator(mode="after")
        def _ordered(self) -> Self:
            if self.low > self.high:
                raise ValueError(f"low = {self.low} is above high = {self.high}")
            return self

    def subscriptions(self) -> Iterator[Subscription]:
        return in_training_only(super().subscriptions(), when=self.settings.low < self.settings.high)

    @transform("sample.image")
    def correct(self, image: "Image.Image", sample: SampleContext) -> "Image.Image":
        low, high = self.settings.low, self.settings.high
        power = low if low == high else math.exp(sample.rng.py.uniform(math.log(low), math.log(high)))
        table = [round(255 * (value / 255) ** power) for value in range(256)]
        return image.convert("RGB").point(table * 3)


class Hsl(Plugin):
    """Turn the hues, and multiply saturation and lightness (the HSL of Joblove and Greenberg 1978, SIGGRAPH, 20-25).

    Written as in CSS Color Module Level 4, section 7. Greys stay grey, and at a lightness of 1 the very same grey. Each
    of the three is a number, or [low, high] to draw from, uniformly; if any is drawn, validation goes without. It takes
    20 to 40 ms for a megapixel, and 75 where hues are turned.
    """

    class Settings(PluginSettings):
        hue: Annotated[Amount, Within(-180, 180)] = Field(0.0, description="degrees; 120 turns red into green")
        saturation: Annotated[Amount, Within(0, 10)] = Field(1.0, description="factor; 0 leaves greys")
        lightness: Annotated[Amount, Within(0, 10)] = Field(1.0, description="factor; above 1 is lighter")

    def subscriptions(self) -> Iterator[Subscription]:
        settings = self.settings
        when = is_random(settings.hue, settings.saturation, settings.lightness)
        return in_training_only(super().subscriptions(), when=when)

    @transform("sample.image")
    def shift(self, image: "Image.Image", sample: SampleContext) -> "Image.Image":
        settings = self.settings
        hue, saturation, lightness = (
            drawn(amount, sample.rng) for amount in (settings.hue, settings.saturation, settings.lightness)
        )
        if (hue, saturation, lightness) == (0, 1, 1):
            return image
        return shifted(image.convert("RGB"), hue, saturation, lightness)


def shifted(image: "Image.Image", degrees: float, saturation: float, lightness: float) -> "Image.Image":
    """An RGB picture with its hues turned and saturation and lightness multiplied."""
    import numpy
    from PIL import Image

    planes = [numpy.frombuffer(channel.tobytes(), dtype=numpy.uint8) for channel in image.split()]
    results = [numpy.empty_like(plane) for plane in planes]
    for start in range(0, image.width * image.height, PIXELS_AT_ONCE):
        some = slice(start, start + PIXELS_AT_ONCE)
        channels = [plane[some].astype(numpy.float32) / numpy.float32(255) for plane in planes]
        for result, channel in zip(results, _shifted(channels, degrees, saturation, lightness), strict=True):
            result[some] = numpy.rint(channel * numpy.float32(255))
    return Image.merge("RGB", [Image.frombytes("L", image.size, result.tobytes()) for result in results])


def _shifted(channels: Sequence[Any], degrees: float, saturation: float, lightness: float) -> list[Any]:
    """Three float32 arrays in [0, 1] -> the same."""
    import numpy

    most, least = numpy.maximum.reduce(channels), numpy.minimum.reduce(channels)
    chroma, light = most - least, (most + least) / 2
    room = 1 - numpy.abs(2 * light - 1)  # the largest chroma at this lightness; 0 for black and white alone
    saturated = numpy.minimum(chroma / numpy.maximum(room, 1e-6) * numpy.float32(saturation), 1)
    new_light = numpy.minimum(light * numpy.float32(lightness), 1)
    reach = saturated * numpy.minimum(new_light, 1 - new_light)
    if not degrees:
        factor = reach / numpy.maximum(chroma, 1e-6) * 2
        return [new_light + (channel - light) * factor for channel in channels]
    turned = _hue(channels, most, chroma) + numpy.float32(degrees % 360 / 30)
    turned -= 12 * (turned >= 12)
    return [new_light - reach * _wave(turned + numpy.float32(offset)) for offset in (0, 8, 4)]


def _hue(channels: Sequence[Any], most: Any, chroma: Any) -> Any:
    """In units of 30 degrees, from 0 to 12; of greys, which have none, any."""
    import numpy

    red, green, blue = channels
    scale = 2 / numpy.maximum(chroma, 1e-6)
    hue = numpy.where(most == green, 4 + (blue - red) * scale, 8 + (red - green) * scale)
    of_red = (green - blue) * scale
    return numpy.where(most == red, of_red + 12 * (of_red < 0), hue)


def _wave(place: Any) -> Any:
    """max(-1, min(k - 3, 9 - k, 1)) for k = place mod 12, with places below 24."""
    import numpy

    place = place - 12 * (place >= 12)
    return numpy.clip(numpy.minimum(place - 3, 9 - place), -1, 1)
