"""The learning rate as a pure function of the step: a factor on the peak rate of every group."""

import math
from collections.abc import Iterator, Sequence

from events.payloads import LearningRateFunction, ParameterGroup

from ..config.tables import TrainTable


def learning_rate_factor(settings: TrainTable) -> LearningRateFunction:
    """Linear warm-up to 1, then 1 until `decay_from` of the steps, then a fall to `final_factor` at the last step.

    The argument is the number of steps taken, so the first step has 1 / warmup_steps. A cosine with several cycles
    starts again from the peak (Loshchilov and Hutter 2017, arXiv:1608.03983, eq. 5, with cycles of equal length).
    """
    warmup, last = settings.warmup_steps, settings.steps - 1
    start = max(warmup, round(settings.decay_from * settings.steps))
    span, final = last - start, settings.final_factor

    def factor(steps_taken: int) -> float:
        if steps_taken < warmup:
            return (steps_taken + 1) / warmup
        if settings.schedule == "constant" or steps_taken <= start or span <= 0:
            return 1.0
        taken = min(steps_taken - start, span)
        return final + (1 - final) * _remaining(settings, taken, span)

    return factor


def rate_lines(groups: Sequence[ParameterGroup], factor: LearningRateFunction, steps: int) -> Iterator[str]:
    """What every rank must have alike, or its weights become others: the groups, and rates now and then in the run."""
    for group in groups:
        sizes = sum(one.numel() for one in group.parameters.values())
        yield (
            f"group {group.name}: {len(group.parameters)} weights of {sizes} numbers, learning rate"
            f" {group.learning_rate!r}, weight decay {group.weight_decay!r}"
        )
    for taken in sorted({0, 1, steps // 2, max(steps - 1, 0)}):
        yield f"factor of the learning rate after {taken} steps: {float(factor(taken))!r}"


def _remaining(settings: TrainTable, taken: int, span: int) -> float:
    """What is left of the fall after `taken` of its `span` steps, from 1 to 0."""
    if settings.schedule == "cosine":
        phase = (
            taken * settings.cycles % span / span if taken < span else 1.0
        )  # whole numbers: a restart is hit exactly
        return (1 + math.cos(math.pi * phase)) / 2
    share = 1 - taken / span
    return share if settings.schedule == "linear" else share**settings.power
