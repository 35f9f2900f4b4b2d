"""Which learning rate suits a model: a short run in which it rises until the loss does too, and a plot of that."""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, model_validator

from events import Plugin, PluginSettings, build, on, transform
from events.control import Control
from events.payloads import (
    CheckpointLoaded,
    ConfigureContext,
    LearningRateFunction,
    MetricsReady,
    ModelContext,
    RunEnd,
    RunStart,
)

if TYPE_CHECKING:
    from core.config.tables import Config

log = logging.getLogger("signalbox.plugins.learning_rate_finder")
SUFFIX = "-finder"
"""Of the run's name, so that the run it is for is left alone."""
SETTLED = 10
"""Steps before which no loss counts as diverged, and fewer of which suggest nothing."""
MEMORY = 0.9
"""Share of the running mean that stays at each step; it decides when to stop, and nothing else."""


class LearningRateFinder(Plugin):
    """Raise the learning rate by the same factor each step, from `low` to `high`, and record what the loss does.

    Smith 2017, "Cyclical learning rates for training neural networks", arXiv:1506.01186, section 3.3, with a rise by a
    constant factor as has become usual. The run is one of its own, named `<run.name>-finder`: it has `steps` steps,
    reports each of them, renders and exports nothing, and stops once the running mean of the loss is `diverged` times
    its lowest. Its weights are worth nothing. It leaves `learning_rate.json` and the plot `learning_rate.svg` in its
    folder, both with two suggestions: where the loss falls most steeply, and a tenth of the rate where it is lowest.

    The rate is that of `train.learning_rate`; groups with another keep their proportion to it. Each loss is that before
    the update with its rate. A step's loss depends on its timesteps and noises more than on its rate, so it is the
    smoothed curve that counts, and larger batches make it clearer.
    """

    class Settings(PluginSettings):
        low: PositiveFloat = Field(1e-7, description="learning rate of the first step")
        high: PositiveFloat = Field(1.0, description="learning rate of the last step, if the loss allows it")
        steps: NonNegativeInt = Field(
            200, description="optimizer steps of the run, in place of train.steps; 0: as that"
        )
        diverged: float = Field(4.0, gt=1, description="stop when the loss's running mean is so many times its lowest")
        smoothing: float = Field(
            0.03,
            ge=0,
            le=0.5,
            description="deviation of the Gaussian mean of the curve, as a share of the ramp's steps",
        )

        @model_validator(mode="after")
        def _rises(self) -> Self:
            if self.low >= self.high:
                raise ValueError(f"low = {self.low:g} is not below high = {self.high:g}")
            return self

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        super().__init__(settings, name=name)
        self._control = Control()
        self._peak = 1.0
        self._losses: list[float] = []
        """Of each step, from the first; NaN where it was not finite."""
        self._is_over = False

    @transform("run.configure")
    def make_a_run_of_its_own(self, config: "Config", context: ConfigureContext) -> "Config":
        """Nothing is rendered, exported or held against it, and a step that is not finite does not end it as an error."""
        steps = self.settings.steps or config.train.steps
        changes: dict[str, dict[str, object]] = {
            "run": {"name": f"{config.run.name}{SUFFIX}"},
            "train": {"steps": steps, "on_nonfinite": "skip", "max_skipped": steps},
            "log": {"every_steps": 1},
            "preview": {"every_steps": 0, "at_start": False, "at_end": False},
            "validation": {"every_steps": 0, "at_start": False},
            "export": {"every_steps": 0, "at_end": False},
        }
        tables = {name: getattr(config, name).model_copy(update=keys) for name, keys in changes.items()}
        return config.model_copy(update=tables)

    @on("run.start", ranks="all")
    def begin(self, event: RunStart) -> None:
        """On every rank, since each of them sets its own rates."""
        self._control = event.control
        self._peak = event.config["train"]["learning_rate"]

    @build("schedule", priority=90)
    def rise(self, factor: LearningRateFunction, context: ModelContext) -> LearningRateFunction:
        ramp, peak = self._ramp(context.steps), self._peak
        return lambda steps_taken: ramp.rate(steps_taken) / peak

    @on("checkpoint.loaded")
    def stay_over(self, event: CheckpointLoaded) -> None:
        if self._is_over:
            self._control.stop("the loss has diverged before; --fresh begins anew", asker=self.name)

    @on("metrics.ready")
    def record(self, event: MetricsReady) -> None:
        self._losses.append(event.values["loss"])
        if not self._is_over and has_diverged(self._losses, self.settings.diverged):
            self._is_over = True
            self._control.stop(f"the loss has diverged by step {event.step}", asker=self.name)

    @on("run.end")
    def tell(self, event: RunEnd) -> None:
        found, folder = find(self._losses, self._ramp(event.run.steps), self.settings.smoothing), event.run.folder
        result = {
            "steepest": found.steepest, "tenth_of_lowest": found.tenth, "lowest": found.lowest,
            "rates": found.rates, "losses": found.losses, "smoothed": found.smoothed,
        }  # fmt: skip
        (folder / "learning_rate.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        (folder / "learning_rate.svg").write_text(plot(event.run.name, found), encoding="utf-8")
        log.info("learning rate: %s (%s)", found.sentence, folder / "learning_rate.svg")

    def state_dict(self) -> Mapping[str, Any]:
        return {"losses": self._losses, "is_over": self._is_over}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._losses, self._is_over = list(state["losses"]), state["is_over"]

    def _ramp(self, steps: int) -> "Ramp":
        return Ramp(low=self.settings.low, high=self.settings.high, steps=steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ramp:
    """A rise by the same factor each step."""

    low: float
    high: float
    steps: int

    def rate(self, steps_taken: int) -> float:
        """
        >>> [round(Ramp(low=0.001, high=1.0, steps=4).rate(steps_taken), 6) for steps_taken in range(4)]
        [0.001, 0.01, 0.1, 1.0]
        """
        rate: float = self.low * (self.high / self.low) ** min(steps_taken / max(self.steps - 1, 1), 1.0)
        return rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The curve, without steps whose loss was not finite, and what it suggests."""

    rates: list[float]
    losses: list[float]
    """One a rate."""
    smoothed: list[float]
    """Likewise."""
    steepest: float | None = None
    """The rate where the loss falls most steeply; None where it does not fall."""
    lowest: float | None = None
    """The rate where it is lowest."""

    @property
    def tenth(self) -> float | None:
        """A tenth of the rate where it is lowest."""
        return None if self.lowest is None else self.lowest / 10

    @property
    def sentence(self) -> str:
        if self.steepest is None or self.tenth is None:
            return "the loss does not fall on the ramp, so nothing is suggested; try a lower low, or more steps"
        return f"{self.steepest:.2g} where the loss falls most steeply, {self.tenth:.2g} a tenth of where it is lowest"


def has_diverged(losses: Sequence[float], times: float) -> bool:
    """Whether the running mean is so many times its lowest, counted from `SETTLED` steps on, or as many steps have no loss.

    A step or two without one are in the nature of float16, whose gradients are scaled.
    """
    if len(losses) >= SETTLED and not any(map(math.isfinite, losses[-SETTLED:])):
        return True
    total, weight, means = 0.0, 0.0, list[float]()
    for loss in filter(math.isfinite, losses):
        total, weight = MEMORY * total + (1 - MEMORY) * loss, MEMORY * weight + (1 - MEMORY)
        means.append(total / weight)
    settled = means[SETTLED:]
    return bool(settled) and settled[-1] > times * min(settled)


def find(losses: Sequence[float], ramp: Ramp, smoothing: float) -> Found:
    """What the losses of a ramp's first steps suggest; those that are not finite are left out."""
    usable = [(ramp.rate(step), loss) for step, loss in enumerate(losses) if 0 < loss < math.inf]
    rates, kept = [rate for rate, _ in usable], [loss for _, loss in usable]
    curve = smooth(kept, smoothing * ramp.steps)
    found = Found(rates=rates, losses=kept, smoothed=curve)
    lowest = min(range(len(curve)), key=curve.__getitem__, default=0)
    if len(curve) < SETTLED or lowest < 2:
        return found
    steepest = max(range(1, lowest), key=lambda place: curve[place - 1] - curve[place + 1])
    return replace(found, steepest=rates[steepest], lowest=rates[lowest])


def smooth(losses: Sequence[float], deviation: float) -> list[float]:
    """Geometric means over neighbours, weighted by a Gaussian of this deviation in steps, so that a burst counts for less."""
    logs, reach = [math.log(loss) for loss in losses], math.ceil(3 * deviation)
    means = []
    for centre in range(len(logs)):
        places = range(max(centre - reach, 0), min(centre + reach + 1, len(logs)))
        weights = [math.exp(-((place - centre) ** 2) / (2 * deviation**2)) if deviation else 1.0 for place in places]
        total = sum(weight * logs[place] for weight, place in zip(weights, places, strict=True))
        means.append(math.exp(total / sum(weights)))
    return means


WIDTH, HEIGHT = 860, 500
LEFT, RIGHT, TOP, BOTTOM = 70, 24, 90, 60
"""Margins of the plot's frame, in pixels."""
FALL, TENTH, LOWEST = "#c2702c", "#4a6fb0", "#74706a"
"""Colours of the marks."""


def plot(name: str, found: Found) -> str:
    """The curve as SVG: each loss a dot, the smoothed curve a line, the suggestions upright lines with their rates."""
    frame = Frame.around(found)
    dots = "".join(
        f'<circle cx="{frame.x(rate):.1f}" cy="{frame.y(loss):.1f}" r="2.2"/>'
        for rate, loss in zip(found.rates, found.losses, strict=True)
    )
    curve = zip(found.rates, found.smoothed, strict=True)
    points = " ".join(f"{frame.x(rate):.1f},{frame.y(loss):.1f}" for rate, loss in curve)
    parts = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
        ' font-family="system-ui, sans-serif" font-size="13" fill="#22211f">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="26" font-size="17" font-weight="600">Loss by learning rate: {escape(name)}</text>',
        *frame.axes(),
        f'<clipPath id="frame"><rect x="{LEFT}" y="{TOP}" width="{frame.width}" height="{frame.height}"/></clipPath>',
        f'<g clip-path="url(#frame)"><g fill="#a8a49c">{dots}</g>',
        f'<polyline points="{points}" fill="none" stroke="#2f6f6a" stroke-width="2.5"/></g>',
        *frame.mark(found.steepest, FALL, "steepest fall", row=0),
        *frame.mark(found.tenth, TENTH, "a tenth of the lowest", row=1),
        *frame.mark(found.lowest, LOWEST, "lowest", row=2),
        "</svg>\n",
    )
    return "\n".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The plot's scales: logarithmic in the rate, linear in the loss."""

    low: float
    high: float
    top: float
    """The largest loss that is shown; what diverges leaves the frame."""

    width: int = WIDTH - LEFT - RIGHT
    height: int = HEIGHT - TOP - BOTTOM

    @staticmethod
    def around(found: Found) -> "Frame":
        curve, rates = found.smoothed or [1.0], found.rates or [1e-6]
        lowest = min(curve)
        top = 1.25 * max(*curve[: curve.index(lowest) + 1], 2 * lowest)
        return Frame(low=rates[0], high=max(rates[-1], 2 * rates[0]), top=top)

    def x(self, rate: float) -> float:
        return LEFT + self.width * math.log(rate / self.low) / math.log(self.high / self.low)

    def y(self, loss: float) -> float:
        return TOP + self.height * (1 - min(loss / self.top, 10.0))

    def axes(self) -> list[str]:
        """The frame, with a line and a number at each power of ten of the rate, and at round losses."""
        bottom, right = TOP + self.height, LEFT + self.width
        middle, centre = LEFT + self.width // 2, TOP + self.height // 2
        parts = [
            f'<rect x="{LEFT}" y="{TOP}" width="{self.width}" height="{self.height}" fill="none" stroke="#74706a"/>',
            f'<text x="{middle}" y="{HEIGHT - 14}" text-anchor="middle">learning rate</text>',
            f'<text x="18" y="{centre}" text-anchor="middle" transform="rotate(-90 18 {centre})">loss</text>',
        ]
        for power in range(math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9) + 1):
            x = self.x(10.0**power)
            parts.append(f'<path d="M{x:.1f} {TOP}V{bottom}" stroke="#e7e3dc"/>')
            parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">1e{power}</text>')
        for loss in round_numbers(self.top):
            y = self.y(loss)
            parts.append(f'<path d="M{LEFT} {y:.1f}H{right}" stroke="#e7e3dc"/>')
            parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{loss:g}</text>')
        return parts

    def mark(self, rate: float | None, colour: str, label: str, *, row: int) -> list[str]:
        """An upright line at a rate; its label stands above the frame, in a row of its own."""
        if rate is None:
            return []
        x, y = self.x(rate), 46 + 17 * row
        anchor, shift = ("end", 6) if x > LEFT + 0.75 * self.width else ("start", -6)
        line = f'stroke="{colour}" stroke-width="1.5" stroke-dasharray="5 3"'
        return [
            f'<path d="M{x:.1f} {TOP}V{TOP + self.height}" {line}/>',
            f'<text x="{x + shift:.1f}" y="{y}" text-anchor="{anchor}" fill="{colour}">{label}: {rate:.2g}</text>',
        ]


def round_numbers(top: float) -> list[float]:
    """From 0 to `top`, four to ten of them: multiples of 1, 2 or 5 of a power of ten.

    >>> round_numbers(1.73), round_numbers(0.04)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6], [0.0, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.035, 0.04])
    """
    power = 10.0 ** math.floor(math.log10(top))
    width = next(share * power for share in (0.1, 0.2, 0.5, 1.0) if top / (share * power) < 10)
    return [round(width * number, 12) for number in range(int(top / width + 1e-9) + 1)]
