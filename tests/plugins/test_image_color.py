"""Gamma raises channels to a power, Hsl shifts hue, saturation and lightness; draws follow from the place alone."""

import colorsys
import math
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from events.testing import Harness, sample_context
from plugins.captions import DropCaption
from plugins.image_color import PIXELS_AT_ONCE, Gamma, Hsl, shifted
from tests.plugins.pictures_for_tests import COLOURS, draws_nothing, in_validation

RAMP = Image.fromarray(numpy.arange(256, dtype=numpy.uint8).repeat(3).reshape(1, 256, 3))


def gamma(low: float, high: float, name: str = "gamma") -> Gamma:
    return Gamma(Gamma.Settings(low=low, high=high), name=name)


def power_of(image: Image.Image) -> float:
    """The power that a ramp was raised to, by its value at 128."""
    value = image.getpixel((128, 0))
    assert isinstance(value, tuple)
    return math.log(value[0] / 255) / math.log(128 / 255)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.2])
def test_a_fixed_power_is_applied_to_every_value(power: float) -> None:
    shown = Harness(gamma(power, power)).apply("sample.image", RAMP, sample_context())
    expected = 255 * (numpy.asarray(RAMP) / 255.0) ** power
    assert numpy.abs(numpy.asarray(shown) - expected).max() <= 0.5 + 1e-6


def test_a_random_power_lies_in_its_range_and_its_logarithm_around_the_middle() -> None:
    harness = Harness(gamma(0.5, 2.0))
    powers = [
        power_of(harness.apply("sample.image", RAMP, sample_context(sample_id=f"{number}.png")))
        for number in range(300)
    ]
    assert 0.49 < min(powers) < 0.55
    assert 1.85 < max(powers) < 2.02
    assert abs(sum(math.log(power) for power in powers)) / 300 < 4 * math.log(4) / math.sqrt(12 * 300)


def test_the_same_place_has_the_same_power() -> None:
    one, other = (Harness(gamma(0.5, 2)).apply("sample.image", RAMP, sample_context(epoch=4)) for _ in range(2))
    assert one.tobytes() == other.tobytes()


def test_another_epoch_has_another_power() -> None:
    harness = Harness(gamma(0.5, 2))
    first, second = (harness.apply("sample.image", RAMP, sample_context(epoch=epoch)) for epoch in (0, 1))
    assert first.tobytes() != second.tobytes()


def test_other_plugins_do_not_change_its_draws() -> None:
    alone = Harness(gamma(0.5, 2)).apply("sample.image", RAMP, sample_context())
    others = Harness(DropCaption(), gamma(1, 1, "other"), gamma(0.5, 2))
    others.apply("sample.caption", "a", sample_context())
    assert others.apply("sample.image", RAMP, sample_context()).tobytes() == alone.tobytes()


def test_a_range_that_is_upside_down_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"low = 2\.0 is above high = 0\.5"):
        Gamma.Settings(low=2, high=0.5)


def test_a_grey_picture_comes_back_as_rgb() -> None:
    shown = Harness(gamma(2, 2)).apply("sample.image", Image.new("L", (2, 2), 128), sample_context())
    assert (shown.mode, shown.getpixel((0, 0))) == ("RGB", (64, 64, 64))


def test_a_fixed_power_is_for_validation_too_and_a_random_one_is_not() -> None:
    assert in_validation(gamma(2, 2), "sample.image", RAMP) != RAMP
    assert in_validation(gamma(0.5, 2), "sample.image", RAMP) is RAMP


def test_a_fixed_power_draws_nothing_so_that_caches_stay_on() -> None:
    assert draws_nothing(gamma(2, 2), "sample.image", RAMP)
    assert not draws_nothing(gamma(0.5, 2), "sample.image", RAMP)


# Hsl


def hsl(**settings: Any) -> Hsl:
    return Hsl(Hsl.Settings(**settings))


def one(colour: tuple[int, int, int], **settings: Any) -> Any:
    """What becomes of a colour."""
    picture = Image.new("RGB", (1, 1), colour)
    return Harness(hsl(**settings)).apply("sample.image", picture, sample_context()).getpixel((0, 0))


@pytest.mark.parametrize(
    ("colour", "settings", "expected"),
    [
        ((255, 0, 0), {"hue": 120}, (0, 255, 0)),
        ((255, 0, 0), {"hue": -120}, (0, 0, 255)),
        ((255, 0, 0), {"hue": 180}, (0, 255, 255)),
        ((200, 100, 100), {"hue": 60}, (200, 200, 100)),
        ((200, 100, 100), {"saturation": 0}, (150, 150, 150)),
        ((160, 140, 140), {"saturation": 2}, (170, 130, 130)),
        ((160, 140, 140), {"saturation": 10}, (250, 50, 50)),
        ((100, 50, 50), {"lightness": 0.5}, (50, 25, 25)),
        ((100, 50, 50), {"lightness": 0}, (0, 0, 0)),
        ((100, 50, 50), {"lightness": 10}, (255, 255, 255)),
        ((0, 0, 0), {"hue": 90, "saturation": 3}, (0, 0, 0)),
        ((255, 255, 255), {"hue": 90, "saturation": 3}, (255, 255, 255)),
    ],
)
def test_known_colours_become_known_colours(
    colour: tuple[int, int, int], settings: dict[str, float], expected: tuple[int, int, int]
) -> None:
    assert one(colour, **settings) == expected


@settings(deadline=None)
@given(
    st.tuples(*[st.integers(0, 255)] * 3), st.floats(-180, 180), st.floats(0, 3), st.floats(0, 3)
)  # fmt: skip
def test_it_is_the_textbooks_hsl(
    colour: tuple[int, int, int], degrees: float, saturation: float, lightness: float
) -> None:
    hue, light, strength = colorsys.rgb_to_hls(*(value / 255 for value in colour))
    expected = colorsys.hls_to_rgb((hue + degrees / 360) % 1, min(1, light * lightness), min(1, strength * saturation))
    found = shifted(Image.new("RGB", (1, 1), colour), degrees, saturation, lightness).getpixel((0, 0))
    assert isinstance(found, tuple)
    assert all(abs(value - 255 * part) <= 0.501 for value, part in zip(found, expected, strict=True))


def test_greys_stay_the_same_greys_however_hue_and_saturation_move() -> None:
    shown = Harness(hsl(hue=77, saturation=5)).apply("sample.image", RAMP, sample_context())
    assert shown.tobytes() == RAMP.tobytes()


def test_off_it_gives_back_the_very_picture() -> None:
    assert Harness(hsl()).apply("sample.image", RAMP, sample_context()) is RAMP


def test_a_picture_of_any_size_is_shifted_whole() -> None:
    """In pieces that do not divide it."""
    width, height = 211, PIXELS_AT_ONCE // 211 + 100
    picture = Image.new("RGB", (width, height), (200, 100, 100))
    assert shifted(picture, 60, 1, 1).getcolors() == [(width * height, (200, 200, 100))]


def test_a_grey_picture_is_shifted_as_rgb() -> None:
    shown = Harness(hsl(lightness=0.5)).apply("sample.image", Image.new("L", (2, 2), 100), sample_context())
    assert (shown.mode, shown.getpixel((0, 0))) == ("RGB", (50, 50, 50))


def test_a_random_hue_lies_in_its_range_and_repeats_at_its_place() -> None:
    harness = Harness(hsl(hue=[20, 100]))
    red = Image.new("RGB", (1, 1), (255, 0, 0))
    hues = []
    for epoch in range(300):
        picture = harness.apply("sample.image", red, sample_context(epoch=epoch))
        value = picture.getpixel((0, 0))
        assert isinstance(value, tuple)
        hues.append(360 * colorsys.rgb_to_hsv(*value)[0])
        assert harness.apply("sample.image", red, sample_context(epoch=epoch)).tobytes() == picture.tobytes()
    assert 19.5 < min(hues) < 24
    assert 96 < max(hues) < 100.5
    assert abs(sum(hues) / 300 - 60) < 4 * 80 / math.sqrt(12 * 300)


def test_fixed_it_is_for_validation_and_draws_nothing_and_random_it_is_not() -> None:
    assert in_validation(hsl(hue=30), "sample.image", COLOURS) != COLOURS
    assert draws_nothing(hsl(hue=30, saturation=[1.5, 1.5]), "sample.image", COLOURS)
    assert in_validation(hsl(hue=30, lightness=[0.5, 1]), "sample.image", COLOURS) is COLOURS


def test_a_value_outside_its_bounds_is_refused() -> None:
    with pytest.raises(ValidationError, match="270 is not between -180 and 180"):
        hsl(hue=270)
