"""Work of which every rank does a part that takes as long as it takes, and what became of all the parts.

Nobody waits in a collective: whoever is done waits at the board. A part that fails, or that is broken off, ends the
others' parts soon, so that all ranks go on from the same place, knowing the same.
"""

from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from typing import TypeVar

from ..errors import LostRankError, OtherRankError, exit_code_of
from .crew import Crew, Value

LOOK_SECONDS = 1.0
"""Between two looks at the board, within a part."""
T = TypeVar("T")


class Divided:
    """One piece of work; every rank comes to it, in the same order as to others."""

    def __init__(self, crew: Crew, what: str, *, lockstep: bool = False) -> None:
        """`what` says in messages what is waited for.

        `lockstep`: the parts exchange with each other as they go. Then none can be ended early without the others, and
        one that fails ends its rank at once, which the others hear of.
        """
        self._crew, self._what, self._lockstep = crew, what, lockstep
        self._broken_off = crew.occasion(f"{what}, broken off")
        self._looked_at = float("-inf")
        self._done = 0

    def over(self, things: Iterable[T]) -> Iterator[T]:
        """One by one, until a rank has broken its part off. Those who wait hear now and then that work goes on."""
        for thing in things:
            if self._is_over():
                return
            yield thing
            self._done += 1

    def break_off(self) -> None:
        """This part is over before its end, and so the others are soon."""
        if self._crew.board is not None:
            self._crew.board.post(self._broken_off, self._crew.rank)

    def results(self, part: Callable[[], Value]) -> list[Value]:
        """What the parts have come to, by rank, on every rank, once all are over.

        Raises what this rank's part raises, and OtherRankError where another's has failed.
        """
        if not self._crew.are_several:
            return [part()]
        try:
            with self._crew.told():
                result = {"result": part()}
        except (OtherRankError, LostRankError):
            raise
        except Exception as error:
            if not self._lockstep:
                self.break_off()
                self._crew.outcomes(self._what, {"said": str(error), "exit_code": exit_code_of(error)})
            raise
        found = self._crew.outcomes(self._what, result)
        for rank, one in enumerate(found):
            if "said" in one:
                raise OtherRankError.of(rank, one["said"], one["exit_code"])
        return [one["result"] for one in found]

    def _is_over(self) -> bool:
        """Whether a rank has broken off, as far as this one has looked. Raises OtherRankError when one has ended."""
        board, now = self._crew.board, monotonic()
        if board is None or now - self._looked_at < LOOK_SECONDS:
            return False
        self._looked_at = now
        self._crew.sign_of_life(f"{self._broken_off}: {self._done}")
        board.raise_cause()
        return not self._lockstep and board.read(self._broken_off) is not None
