"""Grading: white balance, brightness and contrast, as a table of 256 values for each channel."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from core.config.amount import Amount, Within, drawn, in_training_only, is_random
from events import Plugin, PluginSettings, transform
from events.payloads import SampleContext
from events.plugin import Subscription

if TYPE_CHECKING:
    from PIL import Image

DAYLIGHT_KELVIN = 6504.0
"""Of D65, the white of sRGB."""
TO_LINEAR_SRGB = (
    (3.2406, -1.5372, -0.4986),
    (-0.9689, 1.8758, 0.0415),
    (0.0557, -0.2040, 1.0570),
)
"""From CIE XYZ (IEC 61966-2-1:1999)."""
LUMINANCE = (0.2126, 0.7152, 0.0722)
"""Of linear red, green and blue (ibid.)."""


class Grade(Plugin):
    """Warmer or cooler, brighter or darker, with more or less contrast.

    Temperature is a shift along daylight (CIE 15:2004, illuminants D) in mired, 10^6 / K, as the number of a
    photographic filter: +60 turns the white of 6500 K into that of 4700 K. Tint is a shift across it, in thousandths
    of Duv (Ohno 2014, LEUKOS 10(1), 47-55). Both are factors on linear light, in the manner of von Kries with the screen's own
    primaries, that leave the luminance of greys. Then, on stored values, v <- contrast (v - 1/2) + 1/2 + brightness
    (Szeliski 2022, Computer Vision, 2nd ed., section 3.1.1, about the middle), which leaves greys grey.

    Each of the four is a number, or [low, high] to draw from, uniformly; if any is drawn, validation goes without. It
    takes 4 ms for a megapixel.
    """

    class Settings(PluginSettings):
        temperature: Annotated[Amount, Within(-90, 90)] = Field(0.0, description="in mired; above 0 is warmer")
        tint: Annotated[Amount, Within(-30, 30)] = Field(
            0.0, description="in thousandths of Duv; above 0 is towards magenta, below towards green"
        )
        brightness: Annotated[Amount, Within(-1, 1)] = Field(0.0, description="added; 0.1 is a tenth of black to white")
        contrast: Annotated[Amount, Within(0, 4)] = Field(
            1.0, description="factor about the middle grey; below 1 is flatter"
        )

    def subscriptions(self) -> Iterator[Subscription]:
        return in_training_only(super().subscriptions(), when=is_random(*self._amounts()))

    @transform("sample.image")
    def grade(self, image: "Image.Image", sample: SampleContext) -> "Image.Image":
        temperature, tint, brightness, contrast = (drawn(amount, sample.rng) for amount in self._amounts())
        gains = white_balance(temperature, tint)

        def graded(value: float, gain: float) -> float:
            balanced = value if gain == 1 else _encoded(gain * _linear(value))
            return contrast * (balanced - 0.5) + 0.5 + brightness

        stored = [min(255, max(0, round(255 * graded(value / 255, gain)))) for gain in gains for value in range(256)]
        return image if stored == list(range(256)) * 3 else image.convert("RGB").point(stored)

    def _amounts(self) -> tuple[Amount, ...]:
        settings = self.settings
        return settings.temperature, settings.tint, settings.brightness, settings.contrast


def white_balance(temperature: float, tint: float) -> tuple[float, float, float]:
    """Factors on linear red, green and blue for a shift in mired and one in thousandths of Duv; (1, 1, 1) for none."""
    if not temperature and not tint:
        return 1.0, 1.0, 1.0
    kelvin = 1e6 / (1e6 / DAYLIGHT_KELVIN + temperature)
    u, v = _daylight_uv(kelvin)
    (u_before, v_before), (u_behind, v_behind) = _daylight_uv(kelvin * 0.999), _daylight_uv(kelvin * 1.001)
    along_u, along_v = u_behind - u_before, v_behind - v_before
    length = (along_u**2 + along_v**2) ** 0.5
    away = -tint / 1000 / length  # above the locus is green; along it, to higher temperatures, u falls
    white, shifted = _linear_rgb(*_daylight_uv(DAYLIGHT_KELVIN)), _linear_rgb(u + away * along_v, v - away * along_u)
    red, green, blue = (new / old for new, old in zip(shifted, white, strict=True))
    luminance = sum(weight * gain for weight, gain in zip(LUMINANCE, (red, green, blue), strict=True))
    return red / luminance, green / luminance, blue / luminance


def _daylight_uv(kelvin: float) -> tuple[float, float]:
    """CIE 1960 u and v of daylight, for 4000 to 25000 K (CIE 15:2004)."""
    x = (
        0.244063 + 0.09911e3 / kelvin + 2.9678e6 / kelvin**2 - 4.6070e9 / kelvin**3
        if kelvin <= 7000
        else 0.237040 + 0.24748e3 / kelvin + 1.9018e6 / kelvin**2 - 2.0064e9 / kelvin**3
    )
    y = -3.000 * x**2 + 2.870 * x - 0.275
    return 4 * x / (-2 * x + 12 * y + 3), 6 * y / (-2 * x + 12 * y + 3)


def _linear_rgb(u: float, v: float) -> tuple[float, ...]:
    """Linear sRGB of a chromaticity, at a luminance of 1."""
    x, y = 3 * u / (2 * u - 8 * v + 4), 2 * v / (2 * u - 8 * v + 4)
    xyz = x / y, 1.0, (1 - x - y) / y
    return tuple(sum(weight * part for weight, part in zip(row, xyz, strict=True)) for row in TO_LINEAR_SRGB)


def _linear(value: float) -> float:
    """Linear light of a stored value, both from 0 to 1 (IEC 61966-2-1:1999)."""
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def _encoded(light: float) -> float:
    """The other way, for light above 1 too."""
    return light * 12.92 if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055
