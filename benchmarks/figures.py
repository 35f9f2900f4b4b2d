"""What a benchmark says: figures with their spread and the goal they are held to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Literal

Verdict = Literal["", "met", "missed", "within the noise"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Where a figure lies on a line of the plot."""

    line: str
    at: float
    """Of what grows along it: 5 handlers."""
    along: str
    """What grows: `handlers`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured number. A ratio is the median of the rounds' own ratios, since what else the machine does comes and goes."""

    name: str
    value: float
    unit: str
    """`ratio`, or of what it counts: `ms`, `us`, `MB`, `images/s`."""
    low: float | None = None
    """The first quartile of the rounds; None where there was one."""
    high: float | None = None
    """The third quartile."""
    at_most: float | None = None
    """The goal, where smaller is better."""
    at_least: float | None = None
    """The goal, where larger is better."""
    point: Point | None = None

    @property
    def is_met(self) -> bool | None:
        """Whether the goal is; None when there is no goal."""
        if self.at_most is None and self.at_least is None:
            return None
        return (self.at_most is None or self.value <= self.at_most) and (
            self.at_least is None or self.value >= self.at_least
        )

    @property
    def is_within_noise(self) -> bool:
        """Whether a goal that is missed lies between the quartiles, so that this run cannot tell."""
        goal = self.at_most if self.at_most is not None else self.at_least
        if self.is_met is not False or goal is None or self.low is None or self.high is None:
            return False
        return self.low <= goal <= self.high

    @property
    def verdict(self) -> Verdict:
        """Empty where there is no goal."""
        if self.is_met is None:
            return ""
        if self.is_met:
            return "met"
        return "within the noise" if self.is_within_noise else "missed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Of one run of the benchmarks."""

    rounds: int
    """How often contenders take turns."""
    is_quick: bool
    """So small that it shows that the section works, and nothing else."""
    folder: Path
    """For what is measured; temporary."""
    peers: dict[str, Path]
    """Training scripts of others, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One question, and what answers it."""

    name: str
    question: str
    measure: Callable[[Options], list[Figure]]


def figure(
    name: str,
    rounds: Sequence[float],
    unit: str,
    *,
    at_most: float | None = None,
    at_least: float | None = None,
    point: Point | None = None,
) -> Figure:
    """The median of the rounds with their quartiles."""
    low, _, high = quantiles(rounds, n=4, method="inclusive") if len(rounds) > 1 else (None, None, None)
    return Figure(
        name=name, value=median(rounds), unit=unit, low=low, high=high, at_most=at_most, at_least=at_least, point=point
    )  # fmt: skip


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Round by round."""
    return [one / other for one, other in zip(ours, theirs, strict=True)]
