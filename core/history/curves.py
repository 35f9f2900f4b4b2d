"""What is done to a curve before it is drawn or told: smoothing, thinning, and the numbers on its axes."""

import math
from collections.abc import Callable, Sequence

Point = tuple[float, float]
Points = Sequence[Point]
"""(x, value) with x rising."""
SMOOTH_SHARE = 0.02
"""Of the points, how many on each side a smoothed value takes in."""
LEAST_TO_SMOOTH = 20
"""Shorter curves are shown as they are."""
LOG_RATIO = 30.0
"""Largest value over smallest from which on an axis is logarithmic."""
LARGEST, SMALLEST, FLAT = 1e300, 1e-300, 1e-9
"""Ends of what an axis shows, and the share of its values below which they differ in nothing that is seen."""
STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
"""Distances of ticks, times a power of ten."""


def smoothed(points: Points, share: float = SMOOTH_SHARE) -> list[Point]:
    """At each point the mean over its neighbours on both sides; near an end, where it has fewer on one, a line through them.

    The line is that of least squares over the points in order, whose middle is their mean. So nothing lags behind.

    >>> smoothed([(0, 0.0), (1, 3.0), (2, 0.0), (3, 3.0), (4, 0.0)], share=0.2)[2]
    (2, 2.0)
    """
    sums, weighted = [0.0], [0.0]
    for place, (_, value) in enumerate(points):
        sums.append(sums[-1] + value)
        weighted.append(weighted[-1] + place * value)
    reach, result = max(1, round(share * len(points))), []
    for place, (x, _) in enumerate(points):
        first, last = max(0, place - reach), min(len(points) - 1, place + reach)
        count, middle = last - first + 1, (first + last) / 2
        mean = (sums[last + 1] - sums[first]) / count
        together = (weighted[last + 1] - weighted[first]) / count - middle * mean
        slope = together / ((count * count - 1) / 12) if count > 1 else 0.0
        result.append((x, mean + slope * (place - middle)))
    return result


def thinned(points: Points, columns: int = 400) -> Points:
    """The lowest and the highest point of each of `columns` stretches of x: looks the same, and has no more than twice as many."""
    if len(points) <= 2 * columns:
        return points
    first, last = points[0][0], points[-1][0]
    width = (last - first) / columns or 1.0
    kept: dict[int, tuple[Point, Point]] = {}
    for point in points:
        column = min(int((point[0] - first) / width), columns - 1)
        low, high = kept.get(column, (point, point))
        kept[column] = (min(low, point, key=_value), max(high, point, key=_value))
    return [point for pair in kept.values() for point in (sorted(pair) if pair[0] != pair[1] else pair[:1])]


def is_logarithmic(values: Sequence[float]) -> bool:
    """Whether they span so much that a linear axis would hide most of them."""
    return bool(values) and min(values) > 0 and max(values) / min(values) >= LOG_RATIO


def axis(values: Sequence[float], *, from_zero: bool = False) -> tuple[Callable[[float], float], list[Point]]:
    """Where a value lies between the ends of its axis, in [0, 1], and the ticks as (place, value).

    The ends are those of the values on a logarithmic axis, and round numbers on a linear one.
    """
    low, high = (max(-LARGEST, min(LARGEST, end)) for end in (min(values, default=0.0), max(values, default=1.0)))
    if is_logarithmic(values) and not from_zero:
        return _logarithmic(low, high)
    if from_zero or 0 < low < 0.4 * high:
        low = min(low, 0.0)
    size = max(abs(low), abs(high))
    if high - low <= FLAT * size or size < SMALLEST:
        low, high = low - (size or 1.0) / 2 - SMALLEST, high + (size or 1.0) / 2 + SMALLEST
    step = _distance(high - low)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    low, high = first * step, last * step
    ticks = [float(f"{number * step:.12g}") for number in range(first, last + 1)]
    return lambda value: (value - low) / (high - low), [((tick - low) / (high - low), tick) for tick in ticks]


def _logarithmic(low: float, high: float) -> tuple[Callable[[float], float], list[Point]]:
    bottom, span = math.log10(low), math.log10(high) - math.log10(low)
    return lambda value: (math.log10(max(value, low)) - bottom) / span, [
        ((math.log10(tick) - bottom) / span, tick) for tick in log_ticks(low, high) if low <= tick <= high
    ]


def ticks_between(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers from `low` to `high`, at most `most`.

    >>> ticks_between(0, 1000), ticks_between(0.13, 0.41)
    ([0.0, 250.0, 500.0, 750.0, 1000.0], [0.2, 0.3, 0.4])
    """
    step = _distance(high - low, most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


def log_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Powers of ten from `low` to `high`; where these are few, with numbers in between, and where they are many, some.

    >>> log_ticks(0.004, 0.2)
    [0.005, 0.01, 0.02, 0.05, 0.1, 0.2]
    """
    decades = math.log10(high / low)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = -(-len(powers) // most)
    factors = (1, 2, 5) if decades <= 2 else (1, 3) if decades <= 3 else (1,)
    ticks = [float(f"{factor * 10.0**power:.12g}") for power in powers[::every] for factor in factors]
    return [tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]


def short(value: float) -> str:
    """A number in a few signs.

    >>> short(0.04321987), short(1e-5), short(1500), short(0.0), short(-2.5)
    ('0.04322', '1e-05', '1,500', '0', '-2.5')
    """
    if value and not 1e-4 <= abs(value) < 1e6:
        return f"{value:.4g}"
    return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def labels(ticks: Sequence[float]) -> list[str]:
    """The numbers of one axis, all written alike.

    >>> labels([0.0, 0.5, 1.0]), labels([0.0, 5e-05, 0.0001])
    (['0', '0.5', '1'], ['0', '5e-5', '1e-4'])
    """
    if not any(0 < abs(tick) < 1e-4 for tick in ticks):
        return [short(tick) for tick in ticks]
    parts = [f"{tick:.3e}".partition("e") for tick in ticks]
    return [f"{float(head):g}e{int(power)}" if float(head) else "0" for head, _, power in parts]


def _distance(span: float, most: int = 5) -> float:
    """Between round numbers, of which at most so many fit into the span."""
    power = math.floor(math.log10(span)) - 1
    distances = (step * 10.0**place for place in (power, power + 1, power + 2) for step in STEPS)
    return next(distance for distance in distances if span / distance <= most - 1 + 1e-9)


def _value(point: Point) -> float:
    return point[1]
