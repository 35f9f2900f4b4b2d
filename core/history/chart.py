"""Curves as static pictures that fit any width: the lines are SVG that stretches, the numbers are text that does not."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from ..pages.document import Chart
from ..pages.markup import Markup, element
from .curves import LEAST_TO_SMOOTH, Point, Points, axis, labels, short, smoothed, thinned, ticks_between

SIDE = 1000
"""Of the drawing in its own units, which are stretched."""
TONES = 6
"""Colours that there are; `core/pages/style.py` has them as `.tone0` and so on."""
Scale = Callable[[float], float]
"""A value -> its place between the ends of an axis, in [0, 1]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One quantity over the steps of a run."""

    name: str
    points: Points
    kind: Literal["smooth", "line", "dots"] = "line"
    """`smooth`: the reports faint, and their running mean over them."""
    tone: int = 0


def line_chart(
    title: str, curves: Sequence[Curve], *, last: float, note: str = "", wide: bool = False, from_zero: bool = False
) -> Chart:
    """Curves over one axis, logarithmic where their values span much; steps reach from 0 to `last`."""
    values = [value for curve in curves for _, value in curve.points]
    place, ticks = axis(values, from_zero=from_zero)
    across = _steps_up_to(last)
    shapes = [shape for curve in curves for shape in _shapes(curve, across, place)]
    keys = tuple((f"tone{curve.tone % TONES}", curve.name) for curve in curves) if len(curves) > 1 else ()
    marks = zip((at for at, _ in ticks), labels([value for _, value in ticks]), strict=True)
    plot = _plot(title, shapes, last, [*marks])
    return Chart(title=title, plot=plot, keys=keys, note=note, wide=wide)


def share_chart(title: str, curves: Sequence[Curve], *, last: float) -> Chart:
    """Shares in [0, 1] piled on each other, the first at the bottom. Each is known at the steps of the first."""
    across = _steps_up_to(last)
    steps = [step for step, _ in curves[0].points] if curves else []
    below, shapes = [0.0] * len(steps), []
    for curve in curves:
        known = dict(curve.points)
        above = [min(low + known.get(step, 0.0), 1.0) for step, low in zip(steps, below, strict=True)]
        edge = [*zip(steps, above, strict=True), *reversed([*zip(steps, below, strict=True)])]
        shapes.append(_path(edge, across, lambda share: share, f"area tone{curve.tone % TONES}"))
        below = above
    keys = tuple((f"tone{curve.tone % TONES}", curve.name) for curve in curves)
    plot = _plot(title, shapes, last, [(tick / 4, f"{25 * tick} %") for tick in range(5)])
    return Chart(title=title, plot=plot, keys=keys)


def _shapes(curve: Curve, across: Scale, place: Scale) -> list[Markup]:
    tone = f"tone{curve.tone % TONES}"
    if curve.kind == "dots":
        line = _path(curve.points, across, place, f"line thin {tone}")
        return [line, *(_dot(point, across, place, tone, curve.name) for point in thinned(curve.points, 100))]
    if curve.kind == "smooth" and len(curve.points) >= LEAST_TO_SMOOTH:
        faint = _path(thinned(curve.points), across, place, f"line faint {tone}")
        return [faint, _path(thinned(smoothed(curve.points)), across, place, f"line {tone}")]
    return [_path(thinned(curve.points), across, place, f"line {tone}")]


def _path(points: Points, across: Scale, place: Scale, kind: str) -> Markup:
    places = [f"{SIDE * across(x):.0f} {SIDE - SIDE * place(value):.0f}" for x, value in points]
    if len(places) == 1:
        places *= 2  # a line of no length, which its round ends make a dot
    return element("path", d=f"M{'L'.join(places)}", class_=kind)


def _dot(point: Point, across: Scale, place: Scale, tone: str, name: str) -> Markup:
    """A line of no length with round ends, which stays round however the drawing is stretched."""
    x, y = SIDE * across(point[0]), SIDE - SIDE * place(point[1])
    told = element("title", f"{name}, step {point[0]:,.0f}: {short(point[1])}")
    return element("path", told, d=f"M{x:.0f} {y:.0f}h.01", class_=f"dot {tone}")


def _plot(title: str, shapes: Sequence[Markup], last: float, ticks: Sequence[tuple[float, str]]) -> Markup:
    """The drawing with its grid and its numbers."""
    steps = [(tick / (last or 1), tick) for tick in ticks_between(0, last or 1)]
    lines = [element("path", d=f"M0 {SIDE - SIDE * at:.0f}H{SIDE}", class_="grid") for at, _ in ticks]
    drawing = element(
        "svg",
        *lines,
        *shapes,
        viewBox=f"0 0 {SIDE} {SIDE}",
        preserveAspectRatio="none",
        role="img",
        **{"aria-label": title},
    )
    beside = [element("span", text, class_="y", style=f"top:{100 - 100 * at:.1f}%") for at, text in ticks]
    below = [element("span", short(step), class_="x", style=f"left:{100 * at:.1f}%") for at, step in steps]
    return element("div", drawing, *beside, *below, class_="plot")


def _steps_up_to(last: float) -> Scale:
    return lambda step: step / (last or 1.0)
