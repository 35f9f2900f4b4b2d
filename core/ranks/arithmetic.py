"""What each process of a run keeps in memory and sends, by strategy: the sums that `run.py check` tells.

They are of weights, gradients and what the optimizer keeps. Activations are none of it: they depend on the pictures, and
each process has its own.
"""

from dataclasses import dataclass

from ..config.tables import DistributedTable

FLOAT, HALF = 4, 2
"""Bytes of a trained weight and its gradient, and of what travels in bf16."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Of the modules that are trained."""

    trained: int
    """Weights that are, each float32."""
    frozen: int
    """Weights that are not."""
    frozen_bytes: int
    state_bytes: int
    """What the optimizer keeps of all of them, whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Bytes that one process has from step to step."""

    weights: float
    gradients: float
    state: float
    passing: float = 0.0
    """What comes and goes within a step besides: weights in bf16, or gathered. A layer that is gathered for as long as it
    computes is not in it."""
    is_divided: tuple[bool, bool, bool] = (False, False, False)
    """Which of weights, gradients and state are a share."""

    @property
    def total(self) -> float:
        """Without what comes and goes."""
        return self.weights + self.gradients + self.state


def kept(sizes: Sizes, settings: DistributedTable, count: int, rounds: int, *, is_half: bool) -> Kept:
    """By one of `count` processes that take so many rounds a step. `is_half`: the forward pass is in half precision."""
    weights = FLOAT * sizes.trained + sizes.frozen_bytes
    gradients = FLOAT * sizes.trained
    cast = HALF * sizes.trained if is_half else 0  # autocast keeps them until the forward pass is over
    if count == 1 or settings.strategy == "ddp":
        return Kept(weights=weights, gradients=gradients, state=sizes.state_bytes, passing=cast)
    if settings.strategy == "fsdp":
        is_gathered = not settings.reshard_after_forward
        are_whole = is_gathered and rounds > 1  # until the last round, which shares them out
        width = HALF if is_half else FLOAT
        return Kept(
            weights=weights / count, gradients=gradients if are_whole else gradients / count,
            state=sizes.state_bytes / count, passing=width * (sizes.trained + sizes.frozen) if is_gathered else 0,
            is_divided=(True, not are_whole, True),
        )  # fmt: skip
    share = (sizes.state_bytes + FLOAT * sizes.trained) / count  # the optimizer works on a copy of its weights
    is_second = settings.zero_stage > 1
    return Kept(
        weights=weights, gradients=gradients / count if is_second else gradients, state=share, passing=cast,
        is_divided=(False, is_second, True),
    )  # fmt: skip


def sent(sizes: Sizes, settings: DistributedTable, count: int, rounds: int, *, is_half: bool) -> float:
    """Bytes that one process sends in a step, where each exchange goes round in a ring."""
    part = (count - 1) / count  # of what is summed or gathered, on its way round once
    gradients = FLOAT * sizes.trained * part
    if settings.strategy == "ddp":
        return 2 * gradients
    if settings.strategy == "fsdp":
        width = HALF if is_half else FLOAT
        gathered = width * (sizes.trained + sizes.frozen) * part
        return rounds * (2 * gathered + gradients) if settings.reshard_after_forward else rounds * gathered + gradients
    return rounds * gradients + FLOAT * sizes.trained * part
