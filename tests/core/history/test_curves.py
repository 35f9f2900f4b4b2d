"""Curves are smoothed without a lag, thinned without losing a peak, and stand on axes of round numbers."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.history.curves import axis, is_logarithmic, short, smoothed, thinned, ticks_between

finite = st.floats(-1e6, 1e6)


def test_a_smoothed_line_is_the_line() -> None:
    line = [(float(step), 3.0 * step) for step in range(200)]
    assert [value for _, value in smoothed(line, share=0.1)] == pytest.approx([value for _, value in line])


def test_at_its_end_a_smoothed_curve_follows_no_single_point() -> None:
    level = [(float(x), 1.0 + (x == 199)) for x in range(200)]
    assert max(value for _, value in smoothed(level, share=0.05)) < 1.4


def test_a_smoothed_step_is_where_it_was() -> None:
    step = [(float(x), float(x >= 50)) for x in range(100)]
    crossed = next(x for x, value in smoothed(step, share=0.05) if value >= 0.5)
    assert crossed == 50


@given(st.lists(finite, min_size=1, max_size=3000), st.integers(1, 50))
def test_thinned_it_keeps_its_extremes_and_its_order_and_is_short(values: list[float], columns: int) -> None:
    points = list(enumerate(values))
    kept = thinned(points, columns)
    assert len(kept) <= max(2 * columns, 1)
    assert list(kept) == sorted(set(kept))
    assert set(kept) <= set(points)
    assert {min(values), max(values)} <= {value for _, value in kept}


@given(st.lists(finite, min_size=1, max_size=20), st.booleans())
def test_every_value_has_a_place_on_its_axis(values: list[float], from_zero: bool) -> None:
    place, ticks = axis(values, from_zero=from_zero)
    assert all(-1e-9 <= place(value) <= 1 + 1e-9 for value in values)
    assert all(-1e-9 <= at <= 1 + 1e-9 for at, _ in ticks)
    assert len(ticks) <= 8


def test_values_over_many_powers_of_ten_have_a_logarithmic_axis() -> None:
    place, ticks = axis([1e-5, 1.0])
    assert [value for _, value in ticks] == pytest.approx([1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0])
    assert place(10**-2.5) == pytest.approx(0.5)
    assert not is_logarithmic([0.0, 1.0])
    assert not is_logarithmic([0.5, 1.0])


def test_a_mean_below_all_values_has_a_place_on_a_logarithmic_axis() -> None:
    """As the line near the end of a curve that falls to almost nothing may be."""
    curve = [(float(x), 10.0 ** (-x / 4)) for x in range(30)]
    place, _ = axis([value for _, value in curve])
    assert min(value for _, value in smoothed(curve, share=0.2)) < 0
    assert all(0 <= place(value) <= 1 for _, value in smoothed(curve, share=0.2))


def test_an_axis_from_zero_is_linear_however_much_its_values_span() -> None:
    place, _ = axis([1e-5, 1.0], from_zero=True)
    assert place(0.0) == 0
    assert place(0.5) == pytest.approx(0.5)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 150), (0, 123_456), (3, 3.001), (-5, 1e-3)])
def test_ticks_are_few_and_within(low: float, high: float) -> None:
    ticks = ticks_between(low, high)
    assert 2 <= len(ticks) <= 5
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in ticks)


@given(st.floats(-1e300, 1e300))
def test_a_number_is_short_and_close(value: float) -> None:
    assert math.isclose(float(short(value).replace(",", "")), value, rel_tol=1e-3, abs_tol=1e-300)
    assert len(short(value)) <= 11
