"""A flip turns the picture and its mask alike, a jittered crop shows a part of both, and the model is told which."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from core.config.tables import DataTable
from core.data.maker import Encodable
from core.data.scan import scan
from core.pictures.headers import HeaderCache
from events.payloads import Crop, SampleKey
from events.plugin import PluginTable
from events.testing import Harness, sample_context
from plugins.image_crop import CropJitter, Flip
from tests.core.data.test_samples import maker_of
from tests.plugins.pictures_for_tests import draws_nothing, in_validation
from tests.plugins.test_captions import share_of

WHOLE = Crop(left=0, top=0, right=1, bottom=1)
MIDDLE = Crop(left=0.25, top=0, right=0.75, bottom=1)
"""What a picture twice as wide as high shows in a square bucket."""
Make = Callable[..., Encodable]


def flip(**settings: Any) -> Flip:
    return Flip(Flip.Settings(**settings))


def jitter(**settings: Any) -> CropJitter:
    return CropJitter(CropJitter.Settings(**settings))


def cropped(plugin: Flip | CropJitter, crop: Crop = WHOLE, *, epoch: int = 0) -> Crop:
    return Harness(plugin).apply("sample.crop", crop, sample_context(epoch=epoch))


def sides(crop: Crop) -> tuple[float, float]:
    return crop.right - crop.left, crop.bottom - crop.top


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes a sample of a picture whose every pixel is another, and whose mask is its own red channel."""

    def make(use: str, *, size: tuple[int, int] = (64, 64), **settings: Any) -> Encodable:
        ramp = numpy.linspace(0, 255, size[0] * size[1]).reshape(size[1], size[0]).astype(numpy.uint8)
        image = Image.merge("RGBA", [Image.fromarray(ramp)] * 4)
        (tmp_path / "set").mkdir(exist_ok=True)
        image.save(tmp_path / "set" / "a.png")
        data = DataTable(
            root=tmp_path / "set", resolution=(32,), max_aspect=1.0, workers=0, masks="alpha", transparent="black"
        )
        items = scan(data, HeaderCache(None)).items
        maker = maker_of(items, data, (PluginTable(use=use, name="it", position=0, settings=settings),) if use else ())
        item, key = items[0], SampleKey(0, 0, 0)
        return maker.picture(key, item, maker.read_file(item, maker.size_of(key)))

    return make


FLIP, JITTER = "plugins.image_crop.Flip", "plugins.image_crop.CropJitter"

# Flip


@pytest.mark.parametrize(
    ("settings", "axes"),
    [({"horizontal": 1}, (2,)), ({"vertical": 1}, (1,)), ({"horizontal": 1, "vertical": 1}, (1, 2)), ({}, ())],
)
def test_a_flip_turns_pixels_and_mask_alike(make: Make, settings: dict[str, float], axes: tuple[int, ...]) -> None:
    plain, turned = make(""), make(FLIP, **settings)
    assert plain.mask is not None
    assert turned.mask is not None
    assert torch.equal(turned.pixels, plain.pixels.flip(axes))
    assert torch.equal(turned.mask, plain.mask.flip(axes))
    assert (turned.mirrored, turned.upside_down) == (2 in axes, 1 in axes)


def test_what_is_mirrored_twice_is_as_it_was() -> None:
    mirrored = Crop(left=0, top=0, right=1, bottom=1, mirrored=True)
    assert cropped(flip(horizontal=1), mirrored) == WHOLE


def test_off_nothing_is_turned_and_nothing_drawn() -> None:
    assert cropped(flip()) == WHOLE
    assert draws_nothing(flip(), "sample.crop", WHOLE)
    assert draws_nothing(flip(horizontal=1), "sample.crop", WHOLE)


def test_each_side_is_turned_in_its_share_whatever_the_other_does() -> None:
    harness = Harness(flip(horizontal=0.25, vertical=0.5))
    found = [harness.apply("sample.crop", WHOLE, sample_context(sample_id=f"{number}")) for number in range(2000)]
    assert share_of(sum(crop.mirrored for crop in found), 2000, 0.25)
    assert share_of(sum(crop.upside_down for crop in found), 2000, 0.5)
    assert share_of(sum(crop.mirrored and crop.upside_down for crop in found), 2000, 0.125)


def test_certain_flips_are_for_validation_and_drawn_ones_are_not() -> None:
    assert in_validation(flip(vertical=1), "sample.crop", WHOLE).upside_down
    assert in_validation(flip(vertical=1, horizontal=0.5), "sample.crop", WHOLE) is WHOLE


def test_a_probability_above_1_is_refused() -> None:
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        flip(vertical=2)


# CropJitter


@settings(deadline=None)
@given(
    scale=st.tuples(st.floats(0.05, 1), st.floats(0.05, 1)).map(sorted),
    aspect=st.tuples(st.floats(0.25, 1), st.floats(1, 4)),
    place=st.sampled_from(["random", "same"]),
    epoch=st.integers(0, 50),
)
def test_the_part_lies_in_the_picture_and_is_of_the_scale_and_aspect_that_are_set(
    scale: list[float], aspect: tuple[float, float], place: str, epoch: int
) -> None:
    crop = cropped(jitter(scale=scale, aspect=aspect, place=place), MIDDLE, epoch=epoch)
    assert -1e-9 <= crop.left < crop.right <= 1 + 1e-9
    assert -1e-9 <= crop.top < crop.bottom <= 1 + 1e-9
    width, height = sides(crop)
    assert 2 * width * height <= scale[1] + 1e-9
    assert aspect[0] - 1e-6 <= width / 0.5 / height <= aspect[1] + 1e-6
    if max(width, height) < 1 - 1e-9:  # nothing was cut off
        assert 2 * width * height >= scale[0] - 1e-9


def test_a_fixed_part_about_the_middle_is_exact() -> None:
    crop = cropped(jitter(scale=0.25, place="same"), MIDDLE)
    assert (crop.left, crop.top, crop.right, crop.bottom) == pytest.approx((0.375, 0.25, 0.625, 0.75))
    assert cropped(jitter(scale=1, place="same"), MIDDLE) == MIDDLE


def test_about_the_middle_a_part_at_the_edge_is_moved_into_the_picture() -> None:
    edge = Crop(left=0, top=0, right=0.5, bottom=1)
    crop = cropped(jitter(scale=1, aspect=4, place="same"), edge)
    assert (crop.left, crop.right) == pytest.approx((0, 1))
    assert sides(crop)[1] == pytest.approx(0.5)


def test_at_random_every_place_is_as_likely() -> None:
    harness = Harness(jitter(scale=0.25))
    found = [harness.apply("sample.crop", WHOLE, sample_context(epoch=epoch)) for epoch in range(1000)]
    for start in ([crop.left for crop in found], [crop.top for crop in found]):
        assert 0 <= min(start) < 0.01
        assert 0.49 < max(start) <= 0.5
        assert abs(sum(start) / 1000 - 0.25) < 4 * 0.5 / math.sqrt(12 * 1000)


def test_the_same_place_has_the_same_part_and_another_epoch_another() -> None:
    assert cropped(jitter(), epoch=3) == cropped(jitter(), epoch=3)
    assert len({cropped(jitter(), epoch=epoch) for epoch in range(10)}) == 10


def test_a_part_is_shown_of_picture_and_mask_and_the_model_is_told_where(make: Make) -> None:
    """A quarter of the area of 64 x 64 pixels in 32 x 32: the picture as it is, 16 pixels from both edges."""
    made = make(JITTER, scale=0.25, place="same")
    assert made.mask is not None
    ramp = torch.linspace(0, 255, 64 * 64).reshape(64, 64).to(torch.uint8).float()
    part = ramp[16:48, 16:48]
    expected = (part * part / 255).round()  # over black
    assert float((made.pixels[0] * 127.5 + 127.5 - expected).abs().max()) < 1.01
    torch.testing.assert_close(made.mask[0], part.reshape(4, 8, 4, 8).mean(dim=(1, 3)) / 255)
    assert made.geometry == (64, 64, 16, 16, 32, 32)
    assert make("").geometry == (64, 64, 0, 0, 32, 32)


def test_fixed_about_the_middle_it_is_for_validation_and_draws_nothing_and_else_it_is_not() -> None:
    fixed = jitter(scale=0.5, place="same")
    assert in_validation(fixed, "sample.crop", WHOLE) != WHOLE
    assert draws_nothing(fixed, "sample.crop", WHOLE)
    for drawn in (jitter(scale=0.5), jitter(place="same"), jitter(scale=1, aspect=[0.9, 1.1], place="same")):
        assert in_validation(drawn, "sample.crop", WHOLE) is WHOLE
        assert not draws_nothing(drawn, "sample.crop", WHOLE)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"scale": [0.9, 0.5]}, "low = 0.9 is above high = 0.5"),
        ({"scale": 2}, "2 is not between 0.01 and 1"),
        ({"aspect": "wide"}, "'wide' is neither a number nor"),
    ],
)
def test_ranges_that_are_none_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        jitter(**settings)
