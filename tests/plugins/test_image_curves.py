"""Curves go through their points, do not overshoot or turn around between two of them, and blend by their strength."""

import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from events.testing import Harness, sample_context
from plugins.image_curves import Curves, Point, curve_through
from tests.plugins.pictures_for_tests import COLOURS, GREYS, draws_nothing, in_validation

LIFT = ((0, 20), (128, 160), (255, 240))


def curves(**settings: Any) -> Curves:
    return Curves(Curves.Settings(**settings))


def bent(picture: Image.Image, *, epoch: int = 0, **settings: Any) -> list[tuple[int, int, int]]:
    shown = Harness(curves(**settings)).apply("sample.image", picture, sample_context(epoch=epoch))
    found: Any = list(shown.get_flattened_data())
    return list(found)


def points_of(xs: set[int], ys: list[int]) -> tuple[Point, ...]:
    return tuple((float(x), float(y)) for x, y in zip(sorted(xs), ys, strict=False))


POINTS = st.builds(
    points_of,
    st.sets(st.integers(0, 255), min_size=2, max_size=8),
    st.lists(st.integers(0, 255), min_size=8, max_size=8),
)


@pytest.mark.parametrize("between", ["smooth", "linear"])
@settings(deadline=None)
@given(points=POINTS)
def test_a_curve_goes_through_its_points_and_stays_between_two_of_them(between: str, points: tuple[Point, ...]) -> None:
    curve = curve_through(points, between)
    assert [curve(x) for x, _ in points] == pytest.approx([y for _, y in points])
    for (x0, y0), (x1, y1) in pairwise(points):
        values = [curve(x0 + (x1 - x0) * step / 20) for step in range(21)]
        assert all(min(y0, y1) - 1e-9 <= value <= max(y0, y1) + 1e-9 for value in values)
        rises = [(one - other) * (1 if y1 >= y0 else -1) for other, one in pairwise(values)]
        assert all(rise >= -1e-9 for rise in rises)


@settings(deadline=None)
@given(points=POINTS)
def test_a_smooth_curve_has_no_corner_at_a_point(points: tuple[Point, ...]) -> None:
    curve, step = curve_through(points, "smooth"), 1e-6
    for x, y in points[1:-1]:
        before, behind = (y - curve(x - step)) / step, (curve(x + step) - y) / step
        assert before == pytest.approx(behind, abs=1e-2)


def test_points_on_a_line_give_that_line() -> None:
    curve = curve_through(((0, 10), (50, 35), (200, 110), (250, 135)), "smooth")
    assert [curve(float(x)) for x in (10, 60, 120, 220)] == pytest.approx([15, 40, 70, 120])


def test_beyond_its_points_a_curve_stays_level() -> None:
    curve = curve_through(((50, 60), (200, 220)), "smooth")
    assert (curve(0), curve(255)) == (60, 220)


def test_greys_follow_the_curve_of_all_channels_and_stay_grey() -> None:
    found = bent(GREYS, rgb=LIFT, between="linear")
    assert all(red == green == blue for red, green, blue in found)
    assert (found[0][0], found[64][0], found[128][0], found[255][0]) == (20, 90, 160, 240)


def test_a_channel_has_its_own_curve_and_then_that_of_all() -> None:
    halved, inverted = ((0, 0), (255, 127.5)), ((0, 255), (255, 0))
    (found,) = bent(Image.new("RGB", (1, 1), (200, 100, 40)), red=halved, rgb=inverted, between="linear")
    assert found == (155, 155, 215)


def test_a_strength_blends_with_what_was() -> None:
    inverted = ((0, 255), (255, 0))
    (found,) = bent(Image.new("RGB", (1, 1), (255, 200, 55)), rgb=inverted, strength=0.25, between="linear")
    assert found == (191, 164, 91)


def test_without_strength_or_by_a_straight_line_the_very_picture_comes_back() -> None:
    for values in ({"rgb": LIFT, "strength": 0}, {"rgb": ((0, 0), (255, 255))}):
        assert Harness(curves(**values)).apply("sample.image", COLOURS, sample_context()) is COLOURS


def test_a_random_strength_lies_in_its_range_and_repeats_at_its_place() -> None:
    white = Image.new("RGB", (1, 1), "white")
    found = [bent(white, rgb=((0, 255), (255, 0)), strength=[0.2, 0.6], epoch=epoch)[0][0] for epoch in range(100)]
    assert 102 <= min(found) < 110
    assert 196 < max(found) <= 204
    assert found == [
        bent(white, rgb=((0, 255), (255, 0)), strength=[0.2, 0.6], epoch=epoch)[0][0] for epoch in range(100)
    ]


def test_fixed_it_is_for_validation_and_draws_nothing_and_random_it_is_not() -> None:
    assert in_validation(curves(rgb=LIFT), "sample.image", COLOURS) != COLOURS
    assert draws_nothing(curves(rgb=LIFT), "sample.image", COLOURS)
    assert in_validation(curves(rgb=LIFT, strength=[0, 1]), "sample.image", COLOURS) is COLOURS


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "no curve is given; give points of rgb, red, green or blue"),
        ({"red": [[0, 0]]}, "a curve has at least two points"),
        ({"rgb": [[0, 0], [300, 255]]}, "300 is not between 0 and 255"),
        ({"rgb": [[0, 0], [100, 50], [100, 60]]}, "[100, 60] is not to the right of [100, 50]"),
    ],
)
def test_points_that_are_no_curve_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(said)):
        curves(**settings)
