"""The figures of a run as a picture: ratios with their quartiles and goals, and lines over what grows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

from benchmarks.figures import Figure
from benchmarks.output import Result, kinds_of_lines, lines_of

COLOURS = {"met": "#2a7f4f", "missed": "#c0392b", "within the noise": "#d68910", "": "#34495e"}
WIDTH, ROW, MARGIN, LINES = 9.5, 0.34, 0.75, 2.6
"""In inches: of the picture, of a ratio, around a panel, of a panel of lines."""
WIDE = 6.0
"""Numbers that differ by more than this factor are on a logarithmic axis."""
NAME, LEGEND = 46, 30
"""Letters in a line of a ratio's name, and of a line's."""


@dataclass(frozen=True, slots=True)
class Panel:
    """Figures of one section that share an axis."""

    title: str
    figures: tuple[Figure, ...]
    is_lines: bool

    @property
    def height(self) -> float:
        return MARGIN + (LINES if self.is_lines else ROW * len(self.figures))


def draw(results: Sequence[Result], path: Path, machine: str) -> bool:
    """Write the picture; False where there is nothing to draw."""
    panels = [panel for result in results for panel in panels_of(result)]
    if not panels:
        return False
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Picture

    heights = [panel.height for panel in panels]
    picture = Picture(figsize=(WIDTH, sum(heights) + 0.3), layout="constrained")
    FigureCanvasAgg(picture)
    picture.suptitle(machine, fontsize=7.5, color="#555555", x=0.01, ha="left")
    places = picture.subfigures(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for place, panel in zip(places, panels, strict=True):
        axes = place.subplots()
        (draw_lines if panel.is_lines else draw_ratios)(axes, panel)
        axes.set_title(panel.title, loc="left", fontsize=9.5, fontweight="bold")
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
        axes.grid(color="#eeeeee", axis="both" if panel.is_lines else "x")
        axes.set_axisbelow(True)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.savefig(path, dpi=120)
    return True


def panels_of(result: Result) -> Iterator[Panel]:
    """Its ratios together, and its lines by unit and by what grows along them."""
    name, figures = result.section.name, result.figures
    ratios = tuple(one for one in figures if one.unit == "ratio" and one.point is None)
    if ratios:
        yield Panel(f"{name}: ratios with their quartiles; black, the goal", ratios, is_lines=False)
    for along, unit in kinds_of_lines(figures):
        found = tuple(one for line in lines_of(figures, along, unit).values() for one in line.values())
        yield Panel(f"{name}: {unit} by number of {along}", found, is_lines=True)


def draw_ratios(axes: Any, panel: Panel) -> None:
    """A line a ratio: the median, its quartiles, and the goal as a bar with a side that is good."""
    for row, figure in enumerate(panel.figures):
        low = figure.value if figure.low is None else figure.low
        high = figure.value if figure.high is None else figure.high
        colour = COLOURS[figure.verdict]
        axes.plot([low, high], [row, row], color=colour, linewidth=2.2, solid_capstyle="butt", alpha=0.55)
        axes.plot(figure.value, row, "o", color=colour, markersize=5)
        for goal, side in ((figure.at_most, "<"), (figure.at_least, ">")):
            if goal is not None:
                axes.plot([goal, goal], [row - 0.38, row + 0.38], color="black", linewidth=1.2)
                axes.plot(goal, row - 0.28, marker=side, color="black", markersize=3.2, clip_on=False)
    places = [place for one in panel.figures for place in (one.value, one.low, one.high, one.at_most, one.at_least)]
    scale(axes.set_xscale, axes.xaxis, [place for place in places if place is not None])
    axes.axvline(1.0, color="#999999", linewidth=0.8, linestyle=":", zorder=0)
    axes.set_yticks(range(len(panel.figures)), [fill(figure.name, NAME) for figure in panel.figures])
    axes.set_ylim(len(panel.figures) - 0.4, -0.6)


def draw_lines(axes: Any, panel: Panel) -> None:
    """A line a contender over numbers that stand evenly, since they may begin at 0; the other axis is logarithmic."""
    point = panel.figures[0].point
    assert point is not None
    lines = lines_of(panel.figures, point.along, panel.figures[0].unit)
    numbers = sorted({place for line in lines.values() for place in line})
    for name, line in lines.items():
        places, figures = [numbers.index(place) for place in line], list(line.values())
        (drawn,) = axes.plot(
            places, [one.value for one in figures], marker="o", markersize=4, linewidth=1.6, label=name
        )
        lows = [one.value if one.low is None else one.low for one in figures]
        highs = [one.value if one.high is None else one.high for one in figures]
        axes.fill_between(places, lows, highs, color=drawn.get_color(), alpha=0.15, linewidth=0)
    values = [figure.value for figure in panel.figures]
    if not scale(axes.set_yscale, axes.yaxis, values):
        axes.set_ylim(bottom=0)
    axes.set_xticks(range(len(numbers)), [f"{number:,.0f}" for number in numbers])
    axes.set_xlabel(point.along, fontsize=8)
    axes.set_ylabel(panel.figures[0].unit, fontsize=8)
    axes.legend(fontsize=7.5, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))


def scale(set_scale: Any, axis: Any, values: Sequence[float]) -> bool:
    """Make an axis logarithmic where the values are wide apart; says whether it is."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if min(values) <= 0 or max(values) / min(values) <= WIDE:
        return False
    set_scale("log")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if max(values) / min(values) < 1000 else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
    return True
