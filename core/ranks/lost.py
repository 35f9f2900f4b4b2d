"""What a rank makes of it that another is gone or hangs, and how it says so."""

from collections.abc import Callable, Iterable
from time import monotonic

import torch.distributed as dist

from events.errors import PluginError

from ..errors import LostRankError, OtherRankError
from .bell import Bell
from .board import Board

LEAST_SECONDS, MOST_SECONDS = 1.0, 60.0
"""Between two questions, whether the ranks are there for which one waits."""
STOPPING_SECONDS = 6.0
"""How long a rank may be silent when the run is to stop. torchrun asks that of all when one has ended without a word."""
BROKEN = ("gloo", "Connection closed by peer", "Connection reset by peer", "NCCL", "ProcessGroup")
LATE = ("Timed out", "wait timeout")


def is_broken_contact(error: BaseException) -> bool:
    """Whether torch says that an exchange between ranks came to nothing, a plugin's too; it has one kind of error for that,
    and words."""
    if isinstance(error, PluginError):
        return error.__cause__ is not None and is_broken_contact(error.__cause__)
    if isinstance(error, dist.DistBackendError | dist.DistNetworkError | dist.DistStoreError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in BROKEN)


def as_heard(error: BaseException, board: Board, bell: Bell, timeout_seconds: float) -> BaseException:
    """An error of torch's exchanges is that of whoever broke them off, or kept the others waiting; others are as they are."""
    if not is_broken_contact(error):
        return error
    said = str(error.__cause__ if isinstance(error, PluginError) else error)
    is_late, rank = any(words in said for words in LATE), board.rank
    try:
        board.raise_cause() if is_late else board.wait_for_cause()
    except OtherRankError as cause:
        return cause
    except RuntimeError:
        return LostRankError(f"rank {rank} has lost the launcher and the other ranks")
    if is_late:
        said = f"rank {rank} has waited {timeout_seconds:g} s for another, which hangs (distributed.timeout_seconds)"
    else:
        said = f"rank {rank} has lost another, which ended without a word, as the system ends one when memory runs out"
    return LostRankError(f"{said}:{bell.whereabouts()}")


class Silence:
    """Of ranks that one waits for at the board, for as long as they work: one that does not even answer the bell is lost."""

    def __init__(self, bell: Bell, awaited: Callable[[], Iterable[int]], what: str) -> None:
        self._bell, self._awaited, self._what = bell, awaited, what
        self._asked_at = monotonic()
        self._since: dict[int, float] = {}

    def look(self, limit_seconds: float) -> None:
        """Raises LostRankError when a rank has been silent for so long; asks now and then."""
        if monotonic() - self._asked_at < min(max(limit_seconds / 5, LEAST_SECONDS), MOST_SECONDS):
            return
        self._asked_at = now = monotonic()
        silent = {*self._bell.silent()} & {*self._awaited()}
        self._since = {rank: self._since.get(rank, now) for rank in silent}
        lost = [rank for rank, since in self._since.items() if monotonic() - since >= limit_seconds]
        if lost:
            raise LostRankError(
                f"rank {self._bell.rank} waits for rank {', '.join(map(str, sorted(lost)))} ({self._what}), which has not"
                f" answered for {limit_seconds:g} s: it has ended without a word, or hangs"
            )
