"""The curves of a run as charts."""

from collections.abc import Iterator, Mapping

from ..pages.document import Block, Chart, Charts, Section, Verbatim
from .chart import Curve, line_chart, share_chart
from .curves import Points, short
from .reading import VALIDATION, RunHistory

RATE, TIME = "lr/", "time/"
"""What the names of learning rates and of times begin with."""
SHARES = ("steps", "data", "device", "plugins", "lanes_blocked")
"""Kinds of time that reports tell."""
IN_TRAINING = ("steps", "data", "device")
SHOWN = frozenset({"loss", "grad_norm", "images", "skipped"})
"""Metrics with a chart of their own kind."""
MOST_OTHERS = 12
"""Charts of metrics that plugins report."""
NO_CURVES = (
    "The run wrote no numbers. Curves are drawn of metrics.jsonl, which plugins.metrics_file.MetricsFile writes; this table"
    " in the config switches it on:"
)
TABLE = '[[plugins]]\nuse = "plugins.metrics_file.MetricsFile"'


def curve_section(history: RunHistory) -> Section:
    """Every metric that the run reported."""
    if not history.curves:
        return Section(title="Curves", blocks=(NO_CURVES, Verbatim(text=TABLE)))
    blocks: list[Block] = [Charts(charts=tuple(_charts(history)))]
    if not any(name.startswith(VALIDATION) for name in history.curves):
        blocks.append(
            "Without validation there is no telling what is learnt by heart: validation.fraction holds pictures out."
        )
    return Section(title="Curves", blocks=tuple(blocks))


def last_step(*histories: RunHistory) -> float:
    """Up to which steps are known."""
    return max((points[-1][0] for one in histories for points in one.curves.values() if points), default=0)


def validation_curves(curves: Mapping[str, Points]) -> list[Curve]:
    """A curve of dots for each validation set."""
    sets = [name for name in curves if name.startswith(VALIDATION)]
    return [
        Curve(name=name.removeprefix(VALIDATION), points=curves[name], kind="dots", tone=1 + number)
        for number, name in enumerate(sets)
    ]


def lowest_and_last(points: Points) -> str:
    """As a chart's note has them."""
    step, lowest = min(points, key=lambda point: point[1])
    return f"last {short(points[-1][1])}, lowest {short(lowest)} at step {step:,.0f}"


def images_per_second(curves: Mapping[str, Points]) -> Points:
    """Pictures over the time that steps and waiting for data took; empty where the run did not tell it."""
    whole = dict(curves.get(f"{TIME}seconds", ()))
    shares = [dict(curves.get(f"{TIME}{kind}", ())) for kind in IN_TRAINING]
    spent = {step: seconds * sum(share.get(step, 0.0) for share in shares) for step, seconds in whole.items()}
    return [(step, images / spent[step]) for step, images in curves.get("images", ()) if spent.get(step)]


def _charts(history: RunHistory) -> Iterator[Chart]:
    curves, last = history.curves, last_step(history)
    validation = validation_curves(curves)
    if "loss" in curves:
        loss = Curve(name="training", points=curves["loss"], kind="smooth")
        yield line_chart("Loss", [loss, *validation], last=last, note=lowest_and_last(loss.points), wide=True)
    if validation:
        note = lowest_and_last(validation[0].points) if len(validation) == 1 else ""
        yield line_chart("Validation loss", validation, last=last, note=note)
    if rates := _rates(curves):
        yield line_chart("Learning rate", rates, last=last, from_zero=True)
    if norms := curves.get("grad_norm"):
        yield line_chart("Gradient norm", [Curve(name="", points=norms, kind="smooth")], last=last)
    if speed := images_per_second(curves):
        shown = Curve(name="", points=speed, kind="smooth")
        yield line_chart("Pictures a second", [shown], last=last, from_zero=True, note=f"last {short(speed[-1][1])}")
    if shares := _shares(curves):
        yield share_chart("Share of the time", shares, last=last)
    if any(count for _, count in curves.get("skipped", ())):
        yield line_chart("Steps skipped as not finite", [Curve(name="", points=curves["skipped"])], last=last)
    for name in _others(curves):
        yield line_chart(name, [Curve(name="", points=curves[name], kind="smooth")], last=last)


def _rates(curves: Mapping[str, Points]) -> list[Curve]:
    """By parameter group; groups of the same rates together."""
    alike: dict[tuple[tuple[float, float], ...], list[str]] = {}
    for name, points in curves.items():
        if name.startswith(RATE):
            alike.setdefault(tuple(points), []).append(name.removeprefix(RATE))
    return [
        Curve(name=", ".join(names), points=points, tone=number) for number, (points, names) in enumerate(alike.items())
    ]


def _shares(curves: Mapping[str, Points]) -> list[Curve]:
    """Of each kind that took any time; all at the steps of the first kind."""
    if f"{TIME}{SHARES[0]}" not in curves:
        return []
    kinds = [kind for kind in SHARES if any(share for _, share in curves.get(f"{TIME}{kind}", ()))]
    return [
        Curve(name=kind.replace("_", " "), points=curves[f"{TIME}{kind}"], tone=number)
        for number, kind in enumerate(kinds)
    ]


def _others(curves: Mapping[str, Points]) -> list[str]:
    known = (VALIDATION, RATE, TIME)
    return [name for name in curves if name not in SHOWN and not name.startswith(known)][:MOST_OTHERS]
