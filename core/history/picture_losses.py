"""What is known of each picture's losses, and which pictures stand out by them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

STAGES = 6
"""Parts of the timesteps, each with a mean of its own that a loss is held against."""
MEMORY, SETTLED = 64, 10
"""Losses over which such a mean runs, and how many it has to have before one is held against it."""


class Typical:
    """Running mean and variance of the loss's logarithm by stage of the timesteps."""

    def __init__(self, noise_from: float) -> None:
        self._from = noise_from
        self.means = [[0.0, 0.0, 0.0] for _ in range(STAGES)]
        """Count, mean and variance of each stage."""

    def standardised(self, share: float, value: float) -> float | None:
        """How many deviations a value lies above the mean before it, which then moves; None while there is none."""
        stage = self.means[min(int((share - self._from) / (1 - self._from) * STAGES), STAGES - 1)]
        count, mean, variance = stage
        above, weight = value - mean, 1 / min(count + 1, MEMORY)
        stage[:] = count + 1, mean + weight * above, (1 - weight) * (variance + weight * above**2)
        return above / math.sqrt(variance) if count >= SETTLED and variance > 0 else None


@dataclass(slots=True)
class Tally:
    """What is known of one picture."""

    draws: float = 0.0
    total: float = 0.0
    squares: float = 0.0
    """Sums of its standardised losses and of their squares."""
    compared: float = 0.0
    lost: float = 0.0

    def add(self, standardised: float | None) -> None:
        if standardised is not None:
            self.draws += 1
            self.total += standardised
            self.squares += standardised**2

    def compare(self, own: float, other: float) -> None:
        self.compared += 1
        self.lost += other < own


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One picture's numbers; None where there is too little to say."""

    id: str
    is_suspect: bool
    score: float
    """Robust deviations above the median."""
    lost: float | None
    lost_error: float | None
    compared: int
    loss: float | None
    loss_error: float | None
    draws: int

    @property
    def sentence(self) -> str:
        parts = [f"score {self.score:.1f}"]
        parts += [] if self.lost is None else [f"lost {self.lost:.0%} of {self.compared}"]
        parts += [] if self.loss is None else [f"loss {self.loss:+.2f} ± {self.loss_error:.2f}"]
        return ", ".join(parts)


def judge(pictures: Mapping[str, Tally], flag_from: float) -> list[Verdict]:
    """Every picture of which there is a number, the highest score first.

    The share of lost comparisons is taken as y = asin(sqrt((lost + 3/8) / (compared + 3/4))), whose standard error is
    1 / (2 sqrt(compared + 1/2)) whatever the share (Anscombe 1948, "The transformation of Poisson, binomial and
    negative-binomial data").
    """
    are_compared = any(tally.compared for tally in pictures.values())
    measured = {
        name: arcsine(tally) if are_compared else mean_loss(tally)
        for name, tally in pictures.items()
        if (tally.compared if are_compared else tally.draws > 1)
    }
    scores = dict(zip(measured, robust_scores(list(measured.values())), strict=True))
    verdicts = [_verdict(name, pictures[name], score, flag_from) for name, score in scores.items()]
    return sorted(verdicts, key=lambda one: (-one.score, one.id))


def robust_scores(measured: Sequence[tuple[float, float]]) -> list[float]:
    """(value, standard error) -> how far above the median, in 1.4826 median absolute deviations or own standard errors.

    >>> [round(score, 2) for score in robust_scores([(0.0, 0.1), (1.0, 0.1), (2.0, 0.1), (9.0, 0.1)])]
    [-1.01, -0.34, 0.34, 5.06]
    """
    if not measured:
        return []
    middle = median(value for value, _ in measured)
    deviation = 1.4826 * median(abs(value - middle) for value, _ in measured)
    return [(value - middle) / max(deviation, error) for value, error in measured]


def arcsine(tally: Tally) -> tuple[float, float]:
    """The share of lost comparisons, transformed so that its standard error is the same everywhere, and that error."""
    share = (tally.lost + 3 / 8) / (tally.compared + 3 / 4)
    return math.asin(math.sqrt(share)), 0.5 / math.sqrt(tally.compared + 0.5)


def mean_loss(tally: Tally) -> tuple[float, float]:
    """Mean of the standardised losses and its standard error; of two at least."""
    mean = tally.total / tally.draws
    variance = max(tally.squares / tally.draws - mean**2, 0.0) * tally.draws / (tally.draws - 1)
    return mean, math.sqrt(variance / tally.draws)


def _verdict(name: str, tally: Tally, score: float, flag_from: float) -> Verdict:
    loss, loss_error = mean_loss(tally) if tally.draws > 1 else (None, None)
    share = tally.lost / tally.compared if tally.compared else None
    error = None if share is None else math.sqrt(share * (1 - share) / tally.compared)
    return Verdict(
        id=name, is_suspect=score >= flag_from, score=score, lost=share, lost_error=error, compared=int(tally.compared),
        loss=loss, loss_error=loss_error, draws=int(tally.draws),
    )  # fmt: skip
