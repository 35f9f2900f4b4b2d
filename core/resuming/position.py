"""Where a run is: everything about its progress that is not a tensor."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(slots=True, kw_only=True)
class Position:
    """Changed only when a step is complete, so that between steps it can always be stored."""

    step: int = 0
    """Optimizer steps taken."""
    epoch: int = 0
    batches_done: int = 0
    """Of the epoch's plan, also those of skipped steps."""
    epoch_started: bool = False
    plan_digest: str = ""
    accumulate: int = 1
    """Batches a step in this epoch, over all processes."""
    planned_for: int = 0
    """What the epoch's plan was made for, where a run on another number of devices takes more a step; 0: the same."""
    images: int = 0
    epoch_loss_sum: float = 0.0
    epoch_loss_steps: int = 0
    settings: dict[str, int] = field(default_factory=dict)
    """What handlers have set while running, by key."""
    left_out: list[tuple[int, int]] = field(default_factory=list)
    """(epoch, place of its first batch in the plan) of steps that were not finite before the run went back."""

    def begin_epoch(self, plan_digest: str, accumulate: int) -> None:
        self.epoch_started, self.plan_digest, self.accumulate = True, plan_digest, accumulate
        self.planned_for = accumulate
        self.epoch_loss_sum, self.epoch_loss_steps = 0.0, 0

    def end_epoch(self) -> None:
        self.epoch += 1
        self.left_out = [place for place in self.left_out if place[0] >= self.epoch]
        self.batches_done, self.epoch_started, self.plan_digest = 0, False, ""

    @property
    def is_left_out(self) -> bool:
        """Whether the step that comes next is."""
        return (self.epoch, self.batches_done) in self.left_out

    def mean_loss(self) -> float | None:
        return self.epoch_loss_sum / self.epoch_loss_steps if self.epoch_loss_steps else None

    def state(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_state(state: Mapping[str, Any]) -> "Position":
        """Raises TypeError for a value of another kind than `state` gives."""
        position = Position(**state)
        for name, usual in asdict(Position()).items():
            value = getattr(position, name)
            if not isinstance(value, int | float if isinstance(usual, float) else type(usual)):
                raise TypeError(f"position.{name} is {value!r:.80}")
        position.left_out = [(epoch, batch) for epoch, batch in position.left_out]  # JSON has lists
        return position
