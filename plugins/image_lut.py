"""A look from a file: a table that says for each colour which other takes its place."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, PrivateAttr, model_validator

from core.config.amount import Amount, Within, drawn, in_training_only, is_random
from events import Plugin, PluginSettings, TextFile, transform
from events.payloads import SampleContext
from events.plugin import Subscription

if TYPE_CHECKING:
    from PIL import Image, ImageFilter

MOST = 65
"""Largest size of a table that Pillow takes."""
TO_UNIT = {"DOMAIN_MIN": (0.0, 0.0, 0.0), "DOMAIN_MAX": (1.0, 1.0, 1.0)}
"""What these lines may say."""


@dataclass(frozen=True, slots=True)
class Cube:
    """A three-dimensional table of colours."""

    size: int
    """Of each of its sides."""
    colours: tuple[float, ...]
    """Red, green and blue of each place from 0 to 1, that of rising red first, then of green, then of blue."""


class Lut(Plugin):
    """The look of a `.cube` file (Adobe, Cube LUT Specification 1.0, 2013), as graders export them.

    Between the colours of the table it is linear in all three directions. With a strength s, v <- v + s (look(v) - v).
    Tables of three dimensions and up to 65 steps are read. A strength that is drawn is left out in validation. It takes
    35 ms for a megapixel.
    """

    class Settings(PluginSettings):
        file: TextFile = Field(description="the .cube file")
        strength: Annotated[Amount, Within(0, 1)] = Field(1.0, description="0 changes nothing, 1 is the whole look")
        _cube: Cube = PrivateAttr()

        @model_validator(mode="after")
        def _read(self) -> Self:
            self._cube = read_cube(self.file)
            return self

        @property
        def cube(self) -> Cube:
            """What the file holds."""
            return self._cube

    @cached_property
    def _look(self) -> "ImageFilter.Color3DLUT":
        from PIL import ImageFilter

        return ImageFilter.Color3DLUT(self.settings.cube.size, list(self.settings.cube.colours))

    def subscriptions(self) -> Iterator[Subscription]:
        return in_training_only(super().subscriptions(), when=is_random(self.settings.strength))

    @transform("sample.image")
    def look(self, image: "Image.Image", sample: SampleContext) -> "Image.Image":
        from PIL import Image

        strength = drawn(self.settings.strength, sample.rng)
        if strength == 0:
            return image
        plain = image.convert("RGB")
        looked = plain.filter(self._look)
        return looked if strength == 1 else Image.blend(plain, looked, strength)


def read_cube(file: TextFile) -> Cube:
    """Raises ValueError with the file, the line, what was found and what is read."""
    size, colours = 0, list[float]()
    for number, line in file.lines():
        word, *values = line.split()
        if word == "LUT_3D_SIZE":
            size = _size_of(file, number, values)
        elif word in TO_UNIT:
            if _numbers(values) != TO_UNIT[word]:
                raise ValueError(f"{file.at(number)}: {line!r}; a table from 0 to 1 is read")
        elif word == "LUT_1D_SIZE":
            raise ValueError(f"{file.at(number)}: a table of one dimension; plugins.image_curves.Curves has its like")
        elif word != "TITLE":
            colour = _numbers([word, *values])
            if len(colour) != 3:
                raise ValueError(f"{file.at(number)}: {line!r} is no colour of three numbers")
            colours += colour
    if not size:
        raise ValueError(f"{file.path}: no line says LUT_3D_SIZE; is it a .cube file?")
    if len(colours) != 3 * size**3:
        raise ValueError(f"{file.path}: LUT_3D_SIZE {size} takes {size**3} colours, and there are {len(colours) // 3}")
    return Cube(size, tuple(colours))


def _size_of(file: TextFile, number: int, values: list[str]) -> int:
    size = int(values[0]) if len(values) == 1 and values[0].isdecimal() else 0
    if not 2 <= size <= MOST:
        raise ValueError(f"{file.at(number)}: LUT_3D_SIZE {' '.join(values)} is not a whole number from 2 to {MOST}")
    return size


def _numbers(values: list[Any]) -> tuple[float, ...]:
    """Those that are finite numbers, all of them or none."""
    try:
        numbers = tuple(float(value) for value in values)
    except ValueError:
        return ()
    return numbers if all(map(math.isfinite, numbers)) else ()
