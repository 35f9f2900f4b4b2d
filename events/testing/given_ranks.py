"""One rank of several, in a test that has one process: the others say what the test gives them to say."""

import json
from collections.abc import Sequence
from typing import Any

from ..ranks import Ranks


class GivenRanks(Ranks):
    """Rank `rank` of `count`. Each of `answers` is what the others say in one gather, by rank; this one's own is put in.

    >>> ranks = GivenRanks(1, 3, [10, 30])
    >>> ranks.gather(20), ranks.told
    ([10, 20, 30], [20])
    """

    def __init__(self, rank: int, count: int, *answers: Sequence[Any]) -> None:
        """Raises ValueError for a rank that is none, and for an answer that has not one value of each other rank."""
        if not 0 <= rank < count:
            raise ValueError(f"rank {rank} is none of {count}")
        if wrong := [answer for answer in answers if len(answer) != count - 1]:
            raise ValueError(f"an answer has one value of each other rank, {count - 1}; got {wrong[0]!r}")
        self.rank, self.count = rank, count
        self._answers = list(answers)
        self.told: list[Any] = []
        """What this rank has told the others, oldest first."""

    def gather(self, value: Any) -> list[Any]:
        """Raises LookupError for one that the test has no answer to, and TypeError for what JSON does not know."""
        value = json.loads(json.dumps(value))
        if len(self.told) == len(self._answers):
            raise LookupError(
                f"gather is called for the {len(self.told) + 1}. time, and {len(self._answers)} answers are given; give"
                " another list with what the other ranks say"
            )
        answer = self._answers[len(self.told)]
        self.told.append(value)
        return [*answer[: self.rank], value, *answer[self.rank :]]
