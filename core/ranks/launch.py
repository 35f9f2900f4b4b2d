"""`run.py --processes N`: start N ranks on this machine, and see to it that they end together.

It tells them what `accelerate launch` and `torchrun` would, and does what those do not: the cause that came first is told
once and gives the exit code, a rank that saves after another's end is given the time, nothing of a failed run is left
behind, and an interruption reaches every rank once.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic, sleep
from types import FrameType
from typing import Any

import psutil

from ..errors import LostRankError, ResourceError
from .board import CAUSE, CAUSE_SECONDS, SAVING, WELL, Board
from .environment import Place
from .one_machine import environment, open_store, own_variables
from .process_tree import adopting_orphans, children_of, end, ending_of, has_terminal

ENDING_SECONDS = 8.0
"""What ranks are given to end by themselves once one has failed, or a user has asked a second time."""
LOST_SECONDS = 1.5
"""Likewise once a rank has given up one that hangs, which has had distributed.timeout_seconds."""
SAVING_SECONDS = 600.0
"""Likewise for a rank that saves what was trained."""
LOOK_SECONDS = 0.05
FORWARDED = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
FROM_TERMINAL = tuple(getattr(signal, name) for name in ("SIGINT", "SIGHUP") if hasattr(signal, name))
"""Which a terminal sends to the main rank too, since that one stays in the launcher's process group, to read keys."""
INTERRUPTED = (130, 143)
"""Exit codes of a run that has ended well before its end."""


def launch(count: int, command: Sequence[str]) -> int:
    """Run the command in `count` processes; returns the exit code of the run. Raises ResourceError where one cannot start."""
    return Launcher(count, command).run()


@dataclass
class Launcher:
    """The processes of one run on this machine."""

    count: int
    command: Sequence[str]
    ranks: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _others: frozenset[psutil.Process] = frozenset()
    """Processes that this one had started before."""
    _first: tuple[int, int] | None = None
    """(rank, exit code as Popen has it) of the first that failed."""
    _failed_at: float = float("inf")
    _cause: Mapping[str, Any] | None = None
    """Why the run ends, as whoever was first has told."""
    _told_at: float = float("inf")
    _given_up_at: float = float("inf")
    """When a rank told that it has waited for another in vain."""
    _saves: tuple[int, float, float] | None = None
    """(rank, when it said that it saves, when it last did so)."""
    _well: set[int] = field(default_factory=set)
    """Ranks that have come to their end as they should."""
    _signals: list[tuple[int, float]] = field(default_factory=list)
    """Those that came for this process, and when."""

    @adopting_orphans()
    def run(self) -> int:
        store = open_store()  # for as long as this runs
        self._board = Board(Place(rank=-1, port=store.port))
        self._has_terminal = has_terminal()
        self._others = frozenset(children_of(os.getpid()))
        handlers = dict.fromkeys(FORWARDED, self._forward)
        if hasattr(signal, "SIGTSTP") and signal.getsignal(signal.SIGTSTP) != signal.SIG_IGN:
            handlers[signal.SIGTSTP] = self._rest
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            self._start_all(store.port)
            self._watch()
        finally:
            self._end_all()
            for number, handler in before.items():
                signal.signal(number, handler)
        return self._exit_code()

    def _start_all(self, port: int) -> None:
        try:
            for rank in range(self.count):
                if not self._signals:  # else those that are there have been interrupted
                    self.ranks.append(self._start(rank, port))
        except OSError as error:
            raise ResourceError(
                f"rank {len(self.ranks)} of {self.count} could not be started ({error.strerror}); ask for fewer"
            ) from error

    def _start(self, rank: int, port: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603  # the command that is running now
            self.command, env={**own_variables(), **environment(rank, self.count, port)}, process_group=0 if rank else None,
            stdin=subprocess.DEVNULL if rank else None,
        )  # fmt: skip

    # what it watches for

    def _watch(self) -> None:
        """Until all have ended; whoever has had its time is killed."""
        while None in [rank.poll() for rank in self.ranks]:  # each is asked, to have its exit code
            self._look()
            for number, rank in enumerate(self.ranks):
                if rank.poll() is None and monotonic() > self._time_of(number):
                    end(rank)
            sleep(LOOK_SECONDS)
        self._look()

    def _look(self) -> None:
        """Take in who has failed, what was told of it, and who saves."""
        if self._cause is None and (cause := self._board.read(CAUSE)) is not None:
            self._cause, self._told_at = cause, monotonic()
            if cause["exit_code"] == LostRankError.exit_code:
                self._given_up_at = self._told_at
        failed = [(number, rank.returncode) for number, rank in enumerate(self.ranks) if self._has_failed(number)]
        if failed and self._first is None:
            self._first, self._failed_at = failed[0], monotonic()
        if self._first is not None and self._cause is None and self._is_silent(self._first[1]):
            self._tell(*self._first)
        if self._cause is not None and (saving := self._board.read(SAVING)) is not None:
            since = self._saves[1] if self._saves is not None else monotonic()
            self._saves = (saving, since, monotonic())

    def _has_failed(self, number: int) -> bool:
        """Whether it has ended and did not come to its end, as those do too that were interrupted once."""
        code = self.ranks[number].returncode
        if code is None or number in self._well:
            return False
        if code in (0, *INTERRUPTED) and self._board.read(f"{WELL}/{number}"):
            self._well.add(number)
        return number not in self._well

    def _is_silent(self, code: int) -> bool:
        """Whether nobody is going to say why a rank ended with this code; another may be about to, who has begun it all."""
        return (
            code < 0
            or monotonic() > self._failed_at + CAUSE_SECONDS
            or all(rank.poll() is not None for rank in self.ranks)
        )

    def _time_of(self, rank: int) -> float:
        """When a rank that has not ended is killed."""
        if len(self._signals) > 1:
            return self._signals[1][1] + ENDING_SECONDS
        time = min(self._failed_at + ENDING_SECONDS, self._given_up_at + LOST_SECONDS)
        if self._cause is not None and self._cause["rank"] == rank:
            time = self._told_at + ENDING_SECONDS
        if self._saves is not None and self._saves[0] == rank:
            _, since, last = self._saves
            time = min(since + SAVING_SECONDS, max(time, last + ENDING_SECONDS))
        return time

    def _tell(self, rank: int, code: int) -> None:
        """Of one that has not said itself why it ended."""
        cause = {"rank": rank, "said": ending_of(code), "exit_code": max(code, 0) or LostRankError.exit_code}
        if self._signals:
            cause |= {"said": "was interrupted; the newest checkpoint stands", "exit_code": self._interrupted_code()}
        self._cause = self._board.post_first(CAUSE, cause)
        if self._cause == cause:
            print(f"rank {rank} {cause['said']}", file=sys.stderr, flush=True)

    def _end_all(self) -> None:
        """Kill what is left: ranks, and of a failed run whatever they had started."""
        for rank in self.ranks:
            if rank.poll() is None:
                end(rank)
            rank.wait()
        if self._first is not None:
            for process in set(children_of(os.getpid())) - self._others:
                with suppress(psutil.Error):
                    process.kill()

    def _exit_code(self) -> int:
        if self._first is not None and self._cause is not None:
            return int(self._cause["exit_code"])
        return next((rank.returncode for rank in self.ranks if rank.returncode), 0)

    # what a user asks for

    def _forward(self, number: int, frame: FrameType | None) -> None:
        self._signals.append((number, monotonic()))
        for rank, process in enumerate(self.ranks):
            if process.poll() is None and (rank or number not in FROM_TERMINAL or not self._has_terminal):
                process.send_signal(number)

    def _rest(self, number: int, frame: FrameType | None) -> None:
        """Ctrl-Z stops the main rank too, and the others with it; all go on together."""
        others = [process for process in self.ranks[1:] if process.poll() is None]
        for process in others:
            process.send_signal(signal.SIGSTOP)
        signal.signal(number, signal.SIG_DFL)
        os.kill(
            os.getpid(), number
        )  # until a shell has this go on; where there is none to do so, the system stops nothing
        signal.signal(number, self._rest)
        for process in others:
            process.send_signal(signal.SIGCONT)

    def _interrupted_code(self) -> int:
        return INTERRUPTED[0] if self._signals[0][0] == signal.SIGINT else INTERRUPTED[1]
