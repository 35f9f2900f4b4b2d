"""A grade moves white balance, brightness and contrast by its formulas, and leaves greys grey where it must."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from events.testing import Harness, sample_context
from plugins.image_grade import LUMINANCE, Grade, white_balance
from tests.plugins.pictures_for_tests import COLOURS, GREYS, OWL, draws_nothing, in_validation


def grade(**settings: Any) -> Grade:
    return Grade(Grade.Settings(**settings))


def graded(picture: Image.Image, *, epoch: int = 0, **settings: Any) -> Image.Image:
    return Harness(grade(**settings)).apply("sample.image", picture, sample_context(epoch=epoch))


def value(picture: Image.Image, **settings: Any) -> Any:
    return graded(picture, **settings).getpixel((0, 0))


def flat(*colour: int) -> Image.Image:
    return Image.new("RGB", (1, 1), colour)


@pytest.mark.parametrize(
    ("colour", "settings", "expected"),
    [
        ((100, 150, 200), {"brightness": 0.2}, (151, 201, 251)),
        ((100, 150, 200), {"brightness": -0.5}, (0, 22, 72)),
        ((100, 150, 250), {"contrast": 2}, (72, 172, 255)),
        ((100, 150, 250), {"contrast": 0}, (128, 128, 128)),
        ((0, 255, 51), {"contrast": 0.5, "brightness": 0.1}, (89, 217, 115)),
    ],
)
def test_brightness_and_contrast_are_the_formula(
    colour: tuple[int, int, int], settings: dict[str, float], expected: tuple[int, int, int]
) -> None:
    found = value(flat(*colour), **settings)
    assert all(abs(one - other) <= 1 for one, other in zip(found, expected, strict=True))
    contrast, brightness = settings.get("contrast", 1), settings.get("brightness", 0)
    exact = [255 * (contrast * (one / 255 - 0.5) + 0.5 + brightness) for one in colour]
    assert found == tuple(min(255, max(0, round(one))) for one in exact)


@pytest.mark.parametrize(("brightness", "contrast"), [(0.1, 1), (-0.3, 1), (0, 0.5), (0.1, 1.5)])
def test_each_value_is_that_of_the_formula_also_where_halves_are_rounded(brightness: float, contrast: float) -> None:
    found: Any = graded(GREYS, brightness=brightness, contrast=contrast).get_flattened_data()
    exact = [255 * (contrast * (value / 255 - 0.5) + 0.5 + brightness) for value in range(256)]
    assert [red for red, _, _ in found] == [min(255, max(0, round(value))) for value in exact]


@settings(deadline=None)
@given(st.floats(-1, 1), st.floats(0, 4))
def test_greys_stay_grey_and_in_order_under_brightness_and_contrast(brightness: float, contrast: float) -> None:
    shown = graded(GREYS, brightness=brightness, contrast=contrast)
    found: Any = list(shown.get_flattened_data())
    assert all(red == green == blue for red, green, blue in found)
    assert found == sorted(found)


def test_warmer_is_redder_and_less_blue_and_cooler_the_other_way() -> None:
    red, green, blue = value(flat(128, 128, 128), temperature=60)
    assert red > green > blue
    red, green, blue = value(flat(128, 128, 128), temperature=-60)
    assert red < green < blue


def test_tint_goes_from_green_to_magenta() -> None:
    red, green, blue = value(flat(128, 128, 128), tint=15)
    assert min(red, blue) > 128 > green
    red, green, blue = value(flat(128, 128, 128), tint=-15)
    assert max(red, blue) < 128 < green


@settings(deadline=None)
@given(st.floats(-90, 90), st.floats(-30, 30))
def test_white_balance_leaves_the_luminance_of_greys(temperature: float, tint: float) -> None:
    gains = white_balance(temperature, tint)
    assert min(gains) > 0
    assert sum(weight * gain for weight, gain in zip(LUMINANCE, gains, strict=True)) == pytest.approx(1)


def test_a_shift_turns_the_white_of_d65_into_that_of_d50() -> None:
    """CIE 15:2004, table T.3: D50 is x = 0.3457, y = 0.3585, and D65 x = 0.3127, y = 0.3290."""
    gains = white_balance(1e6 / 5003 - 1e6 / 6504, 0)
    xyz = (0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505)
    big_x, big_y, big_z = (sum(weight * gain for weight, gain in zip(row, gains, strict=True)) for row in xyz)
    total = big_x + big_y + big_z
    assert (big_x / total, big_y / total) == pytest.approx((0.3457, 0.3585), abs=5e-4)


def test_shifts_that_are_small_change_little() -> None:
    assert white_balance(1e-6, 0) == pytest.approx((1, 1, 1), abs=1e-5)
    assert white_balance(0, 1e-6) == pytest.approx((1, 1, 1), abs=1e-5)
    assert white_balance(0, 0) == (1, 1, 1)


def test_a_grade_that_rounds_to_nothing_gives_back_the_very_picture() -> None:
    assert graded(OWL) is OWL
    assert graded(OWL, brightness=1e-6) is OWL


def test_a_random_grade_lies_in_its_range_and_repeats_at_its_place() -> None:
    found = [value(flat(100, 100, 100), brightness=[-0.1, 0.1], epoch=epoch)[0] for epoch in range(100)]
    assert 74 <= min(found) < 80
    assert 120 < max(found) <= 126
    assert found == [value(flat(100, 100, 100), brightness=[-0.1, 0.1], epoch=epoch)[0] for epoch in range(100)]


def test_fixed_it_is_for_validation_and_draws_nothing_and_random_it_is_not() -> None:
    assert in_validation(grade(temperature=30), "sample.image", COLOURS) != COLOURS
    assert draws_nothing(grade(temperature=30, contrast=1.2), "sample.image", COLOURS)
    assert in_validation(grade(temperature=30, contrast=[0.9, 1.1]), "sample.image", COLOURS) is COLOURS
    assert not draws_nothing(grade(contrast=[0.9, 1.1]), "sample.image", COLOURS)


def test_a_value_outside_its_bounds_is_refused() -> None:
    with pytest.raises(ValidationError, match="120 is not between -90 and 90"):
        grade(temperature=[0, 120])
