"""Sharpening adds what a blur takes away, and below 0 it blurs, by the textbook's formula on the pixels themselves."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from core.pictures.images import to_pixels
from events.testing import Harness, sample_context
from plugins.image_sharpness import Sharpen, blurred
from tests.plugins.pictures_for_tests import COLOURS, OWL, draws_nothing, in_validation

PIXELS = to_pixels(COLOURS)


def sharpen(**values: Any) -> Sharpen:
    return Sharpen(Sharpen.Settings(**values))


def sharpened(pixels: Tensor, *, epoch: int = 0, **values: Any) -> Tensor:
    return Harness(sharpen(**values)).apply("sample.pixels", pixels, sample_context(epoch=epoch))


def dot(width: int = 41) -> Tensor:
    pixels = torch.zeros(3, width, width)
    pixels[:, width // 2, width // 2] = 1
    return pixels


@pytest.mark.parametrize("deviation", [0.5, 1.0, 3.0])
def test_the_blur_of_a_dot_is_the_gaussian(deviation: float) -> None:
    found = blurred(dot(), deviation)
    places = torch.arange(41) - 20
    line = torch.exp(-places.square() / (2 * deviation**2)) * (places.abs() <= max(1, round(3 * deviation)))
    expected = line[:, None] * line / line.sum() ** 2
    torch.testing.assert_close(found, expected.expand(3, 41, 41), rtol=1e-5, atol=1e-7)
    assert float(found[0].sum()) == pytest.approx(1)
    assert math.isclose(float(found[0, 20, 21]), float(found[0, 21, 20]), rel_tol=1e-5)


@pytest.mark.parametrize("amount", [-1.0, -0.3, 0.5, 2.0])
def test_it_is_the_formula(amount: float) -> None:
    expected = (PIXELS + amount * (PIXELS - blurred(PIXELS, 1.5))).clamp(-1, 1)
    torch.testing.assert_close(sharpened(PIXELS, amount=amount, radius=1.5), expected)


def test_at_minus_one_it_is_all_blurred() -> None:
    torch.testing.assert_close(sharpened(PIXELS, amount=-1, radius=2), blurred(PIXELS, 2).clamp(-1, 1))


def test_above_0_edges_have_more_contrast_and_below_less() -> None:
    pixels = to_pixels(OWL) * 0.5
    spread = [float(sharpened(pixels, amount=amount).std()) for amount in (-0.5, 0, 0.5)]
    assert spread == sorted(spread)
    assert spread[0] < spread[2]


def test_flat_pictures_stay_flat_to_their_edges() -> None:
    flat = torch.full((3, 20, 30), 0.25)
    torch.testing.assert_close(sharpened(flat, amount=3, radius=4), flat)


def test_differences_below_the_threshold_stay() -> None:
    pixels = torch.zeros(3, 40, 40)
    pixels[:, :, 20:] = 2 / 127.5
    pixels[:, 20:] += 1
    found = sharpened(pixels, amount=1, radius=1, threshold=10)
    assert torch.equal(found[:, :10], pixels[:, :10])
    assert not torch.equal(found, pixels)


def test_off_the_very_pixels_come_back() -> None:
    assert sharpened(PIXELS, amount=0) is PIXELS


def test_what_it_is_given_is_left_alone() -> None:
    before = PIXELS.clone()
    sharpened(PIXELS, amount=2, threshold=4)
    assert torch.equal(PIXELS, before)


@settings(max_examples=30, deadline=None)
@given(st.floats(-1, 5), st.floats(0.1, 20), st.floats(0, 255), st.integers(1, 40), st.integers(1, 40))
def test_pixels_stay_in_their_range_and_shape(
    amount: float, radius: float, threshold: float, width: int, height: int
) -> None:
    pixels = torch.rand(3, height, width) * 2 - 1
    found = sharpened(pixels, amount=amount, radius=radius, threshold=threshold)
    assert found.shape == pixels.shape
    assert float(found.abs().max()) <= 1


def test_a_random_amount_lies_in_its_range_and_repeats_at_its_place() -> None:
    pixels, blur = dot() * 0.4, blurred(dot() * 0.4, 1)
    place = (0, 20, 20)
    found = [float(sharpened(pixels, amount=[0.5, 1], epoch=epoch)[place]) for epoch in range(80)]
    amounts = [(one - 0.4) / (0.4 - float(blur[place])) for one in found]
    assert 0.5 <= min(amounts) < 0.55
    assert 0.95 < max(amounts) <= 1
    assert found == [float(sharpened(pixels, amount=[0.5, 1], epoch=epoch)[place]) for epoch in range(80)]


def test_fixed_it_is_for_validation_and_draws_nothing_and_random_it_is_not() -> None:
    assert not torch.equal(in_validation(sharpen(amount=1), "sample.pixels", PIXELS), PIXELS)
    assert draws_nothing(sharpen(amount=1), "sample.pixels", PIXELS)
    assert in_validation(sharpen(amount=[0, 1]), "sample.pixels", PIXELS) is PIXELS


def test_a_value_outside_its_bounds_is_refused() -> None:
    with pytest.raises(ValidationError, match="-2 is not between -1 and 5"):
        sharpen(amount=-2)
