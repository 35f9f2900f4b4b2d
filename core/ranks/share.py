"""Which batches of a plan are whose. A step takes so many batches in a row, dealt to the ranks one by one.

So batch k of a step is round k // count of rank k % count. One process that takes as many rounds as several processes
take batches trains on the same batches in the same steps.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from events.payloads import SampleKey
from events.ranks import Ranks

Keys = tuple[SampleKey, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One rank's batches of one step."""

    keys: tuple[Keys, ...]
    """As many on every rank."""
    numbers: tuple[int, ...]
    """Which of the step's batches each is."""
    batches: int
    """Of the step, on all ranks."""
    images: int
    """Likewise; copies that fill a short batch are none."""

    def is_stand_in(self, round_number: int) -> bool:
        """Whether the batch is another rank's, which this one goes through without weight, since it has none left."""
        return self.numbers[round_number] >= self.batches


def shares(plan: Sequence[Keys], start: int, batches_a_step: int, ranks: Ranks) -> Iterator[Share]:
    """Of each step from batch `start` on."""
    for first in range(start, len(plan), batches_a_step):
        batches = [plan[number] for number in range(first, min(first + batches_a_step, len(plan)))]
        numbers = tuple(range(ranks.rank, -(-len(batches) // ranks.count) * ranks.count, ranks.count))
        yield Share(
            keys=tuple(batches[min(number, len(batches) - 1)] for number in numbers), numbers=numbers,
            batches=len(batches), images=sum(not key.is_copy for batch in batches for key in batch),
        )  # fmt: skip


def batches_a_step(rounds: int, ranks: Ranks, begun_with: int = 0) -> int:
    """Over all ranks; an epoch that began with another number, of a run on fewer or more devices, keeps it if it can.

    Else it is the next higher one that gives every rank as many rounds.
    """
    wanted = begun_with or rounds * ranks.count
    return -(-wanted // ranks.count) * ranks.count
