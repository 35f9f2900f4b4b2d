"""Curves: what each stored value of a channel becomes, through points that the config names."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from core.config.amount import Amount, Within, drawn, in_training_only, is_random
from events import Plugin, PluginSettings, transform
from events.payloads import SampleContext
from events.plugin import Subscription

if TYPE_CHECKING:
    from PIL import Image

Point = tuple[float, float]


class Curves(Plugin):
    """Curves through control points [from, to], on stored values from 0 to 255, for each channel and then for all.

    Between the points "smooth" is Steffen's cubic (1990, Astronomy and Astrophysics 239, 443-450), which neither
    overshoots nor turns around between two points; before the first and behind the last the curve stays level.
    With a strength s it is v <- v + s (curve(v) - v). The curve `rgb` alone leaves greys grey. A strength that is drawn
    is left out in validation. It takes 3 ms for a megapixel.
    """

    class Settings(PluginSettings):
        rgb: tuple[Point, ...] = Field((), description="points of the curve of all channels: [[0, 20], [255, 240]]")
        red: tuple[Point, ...] = Field((), description="points of the red channel's own curve, which comes first")
        green: tuple[Point, ...] = Field((), description="likewise of green")
        blue: tuple[Point, ...] = Field((), description="likewise of blue")
        between: Literal["smooth", "linear"] = Field("smooth", description="how the points are joined")
        strength: Annotated[Amount, Within(0, 1)] = Field(1.0, description="0 changes nothing, 1 is the whole curve")

        @field_validator("rgb", "red", "green", "blue")
        @classmethod
        def _rising(cls, points: tuple[Point, ...]) -> tuple[Point, ...]:
            if outside := [value for point in points for value in point if not 0 <= value <= 255]:
                raise ValueError(f"{outside[0]:g} is not between 0 and 255")
            if len(points) == 1:
                raise ValueError("a curve has at least two points, such as [[0, 0], [255, 255]]")
            for one, other in pairwise(points):
                if one[0] >= other[0]:
                    raise ValueError(f"[{other[0]:g}, {other[1]:g}] is not to the right of [{one[0]:g}, {one[1]:g}]")
            return points

        @model_validator(mode="after")
        def _something(self) -> Self:
            if not (self.rgb or self.red or self.green or self.blue):
                raise ValueError("no curve is given; give points of rgb, red, green or blue")
            return self

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        super().__init__(settings, name=name)
        own = (self.settings.red, self.settings.green, self.settings.blue)
        of_all = curve_through(self.settings.rgb, self.settings.between)
        curves = [curve_through(points, self.settings.between) for points in own]
        self._tables = [[of_all(curve(float(value))) for value in range(256)] for curve in curves]

    def subscriptions(self) -> Iterator[Subscription]:
        return in_training_only(super().subscriptions(), when=is_random(self.settings.strength))

    @transform("sample.image")
    def bend(self, image: "Image.Image", sample: SampleContext) -> "Image.Image":
        strength = drawn(self.settings.strength, sample.rng)
        stored = [
            min(255, max(0, round(value + strength * (bent - value))))
            for table in self._tables
            for value, bent in enumerate(table)
        ]
        return image if stored == list(range(256)) * 3 else image.convert("RGB").point(stored)


def curve_through(points: Sequence[Point], between: str) -> Callable[[float], float]:
    """The function through points of rising x; without points, what changes nothing."""
    if not points:
        return lambda x: x
    xs, ys = [x for x, _ in points], [y for _, y in points]
    slopes = [(y1 - y0) / (x1 - x0) for (x0, y0), (x1, y1) in pairwise(points)]
    tangents = _tangents(xs, slopes)

    def curve(x: float) -> float:
        if x <= xs[0] or x >= xs[-1]:
            return ys[0] if x <= xs[0] else ys[-1]
        place = bisect_right(xs, x) - 1
        h, s, t = xs[place + 1] - xs[place], slopes[place], x - xs[place]
        if between == "linear":
            return ys[place] + s * t
        d0, d1 = tangents[place], tangents[place + 1]
        return ys[place] + d0 * t + (3 * s - 2 * d0 - d1) / h * t**2 + (d0 + d1 - 2 * s) / h**2 * t**3

    return curve


def _tangents(xs: Sequence[float], slopes: Sequence[float]) -> list[float]:
    """Steffen's slopes of the curve at each point, from those of the lines between points."""
    if len(slopes) == 1:
        return [slopes[0], slopes[0]]
    widths = [right - left for left, right in pairwise(xs)]
    inner = [
        _steffen(s0, s1, (s0 * h1 + s1 * h0) / (h0 + h1))
        for (s0, s1), (h0, h1) in zip(pairwise(slopes), pairwise(widths), strict=True)
    ]
    return [_end(slopes, widths), *inner, _end(slopes[::-1], widths[::-1])]


def _steffen(s0: float, s1: float, p: float) -> float:
    """Within: p is that of the parabola through three points (eq. 11)."""
    if s0 * s1 <= 0:
        return 0.0
    return (1 if s0 > 0 else -1) * min(2 * abs(s0), 2 * abs(s1), abs(p))


def _end(slopes: Sequence[float], widths: Sequence[float]) -> float:
    """At the first point: that of the parabola through the first three, limited likewise."""
    s0, s1, h0, h1 = slopes[0], slopes[1], widths[0], widths[1]
    p = s0 * (1 + h0 / (h0 + h1)) - s1 * h0 / (h0 + h1)
    if p * s0 <= 0:
        return 0.0
    return 2 * s0 if abs(p) > 2 * abs(s0) else p
