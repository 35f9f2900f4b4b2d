"""Gamma raises a picture's channels to a power that follows from the sample's place alone."""

import math

import numpy
import pytest
from PIL import Image
from pydantic import ValidationError

from events.testing import Harness, sample_context
from plugins.captions import DropCaption
from plugins.image_color import Gamma

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
