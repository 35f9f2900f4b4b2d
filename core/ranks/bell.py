"""How one rank calls the others to a meeting, so that steps in which nobody wants anything send no message.

Ranks go through the same step boundaries and are never far apart, since gradients hold them together. Each has a thread
that listens for the bell. When it rings, each thread says which boundary its rank will not pass without knowing more,
the next one; the meeting is at the latest of these. A rank that comes to its own earlier waits there on the host, which
keeps nobody's device from working, and goes on to the place of the meeting.
"""

import atexit
import os
import sys
import threading
import traceback
from contextlib import suppress
from time import monotonic, sleep
from types import FrameType

from ..errors import LostRankError
from .board import FIRST_LOOK_SECONDS, Board
from .environment import Place

LISTEN_SECONDS = 3600.0
LONGEST_LOOK_SECONDS = 0.05
"""Between two looks at whether every rank has answered a ring."""
ANSWER_SECONDS = 2.0
MOST_SHOWN = 12
MEET, WHERE, END = "meet", "where", "end"


class Bell:
    """Of one rank. The thread that comes to the boundaries is the one that called `begin`."""

    def __init__(self, board: Board, place: Place) -> None:
        """`board` is that of the rank's own thread; the one that listens has another."""
        self._board = board
        self._listening = board.another()
        self._place = place
        self._limit_seconds = 0.0
        self._boundary = 0
        """Boundaries that the rank has come to."""
        self._promises: dict[int, int] = {}
        """By ring, the boundary that it will not pass before it knows where that meeting is."""
        self._meetings: set[int] = set()
        self._heard = 0
        """How many rings."""
        self._news = threading.Condition()
        self._failure: BaseException | None = None
        self._watched = 0
        self._thread = threading.Thread(target=self._listen, name="signalbox-bell", daemon=True)

    @property
    def rank(self) -> int:
        """Whose it is."""
        return self._place.rank

    def begin(self, limit_seconds: float) -> None:
        """Listen; a rank waits so long at a boundary for one that does not answer the bell."""
        self._watched, self._limit_seconds = threading.get_ident(), limit_seconds
        self._thread.start()
        atexit.register(self.close)  # a thread that waits in torch must not come back while the interpreter ends

    def ring(self) -> None:
        """Call a meeting; a second call before it takes place adds nothing."""
        with self._news:
            if self._promises or any(place > self._boundary for place in self._meetings):
                return
        self._ring(MEET)

    def is_meeting(self) -> bool:
        """Come to the next boundary; whether ranks meet there. Waits when the bell has rung and the place is not known.

        Raises OtherRankError when another rank has ended meanwhile, LostRankError for one that does not answer, and when
        this rank can hear the bell no more.
        """
        with self._news:
            self._boundary += 1
            until = monotonic() + self._limit_seconds
            while self._is_unsure and monotonic() < until:
                if not self._news.wait(1.0):
                    self._board.raise_cause()
            failure, is_unsure = self._failure, self._is_unsure
            is_meeting = self._boundary in self._meetings
            self._meetings.discard(self._boundary)
        if failure is not None:
            raise LostRankError(
                f"rank {self._place.rank} has lost the launcher, by which the ranks hear of each other ({failure}); what was"
                " trained is saved where that can be, and the same command goes on from there"
            ) from failure
        if is_unsure:
            raise LostRankError(
                f"rank {self._place.rank} has waited {self._limit_seconds:g} s for another to say where they meet; it hangs,"
                f" or the machine does. The last checkpoint stands{self.whereabouts()}"
            )
        return is_meeting

    def whereabouts(self) -> str:
        """What every other rank's own thread is doing, as far as they answer: for the message about one that hangs."""
        said = self._answers()
        lines = [
            f"\n  rank {rank} {f'is at {said[rank]}' if said[rank] else 'does not answer'}"
            for rank in sorted(said, key=lambda rank: bool(said[rank]))[:MOST_SHOWN]
        ]
        return "".join(lines)

    def silent(self) -> list[int]:
        """Ranks that have ended, or do not come to say anything: they are stopped, or hold the interpreter in C."""
        if not self._thread.is_alive():  # the others listen no more than this one does
            return []
        return [rank for rank, answer in self._answers().items() if not answer]

    def _answers(self) -> dict[int, str]:
        """What each other rank says that it is doing, waited for a moment; empty where it says nothing."""
        said = {rank: "" for rank in range(self._place.count) if rank != self._place.rank}
        try:
            number, until = self._ring(WHERE), monotonic() + ANSWER_SECONDS
            while "" in said.values() and monotonic() < until:
                sleep(LONGEST_LOOK_SECONDS)
                said |= {rank: self._board.read(f"bell/{number}/{rank}") or "" for rank in said if not said[rank]}
        except RuntimeError:  # the launcher is gone
            return {}
        return said

    def close(self) -> None:
        """End the thread, wherever it is; should it be stuck, it keeps nobody from ending."""
        atexit.unregister(self.close)
        if not self._thread.is_alive():
            return
        with suppress(RuntimeError):  # the launcher is gone, and with it what the thread listens to
            self._ring(f"{END} {self._place.rank}")
        self._thread.join(ANSWER_SECONDS)

    @property
    def _is_unsure(self) -> bool:
        """Whether the rank may not pass this boundary yet."""
        return self._failure is None and self._boundary in self._promises.values()

    def _ring(self, why: str) -> int:
        """Returns which ring it is; of two at once for the same reason one is enough."""
        number = self._heard
        while self._board.post_first(f"bell/{number}", why) != why:
            number += 1
        return number

    # what the listening thread does

    def _listen(self) -> None:
        try:
            while self._answer(self._next_ring()):
                pass
        except BaseException as error:
            with self._news:
                self._failure = error
                self._news.notify_all()

    def _next_ring(self) -> str:
        """Why the bell rings; meanwhile meetings find their places, which no other ring has to wait for."""
        key, look = f"bell/{self._heard}", FIRST_LOOK_SECONDS
        while True:
            self._settle_places()
            why = self._listening.read(key) if self._promises else self._listening.hear(key, LISTEN_SECONDS)
            if why is not None:
                return str(why)
            if self._promises:
                sleep(look)
                look = min(look * 1.5, LONGEST_LOOK_SECONDS)

    def _answer(self, why: str) -> bool:
        """Whether to listen on."""
        number = self._heard
        if why == MEET:
            with self._news:
                promise = self._promises[number] = self._boundary + 1
            self._listening.contribute(f"bell/{number}/promises", promise)
        elif why == WHERE:
            self._listening.post(f"bell/{number}/{self._place.rank}", self._stack())
        self._heard = number + 1
        return why != f"{END} {self._place.rank}"

    def _settle_places(self) -> None:
        for number in list(self._promises):
            promises = self._listening.read(f"bell/{number}/promises")
            if promises is not None:
                with self._news:
                    del self._promises[number]
                    self._meetings.add(max(promises))
                    self._news.notify_all()

    def _stack(self) -> str:
        frame: FrameType | None = sys._current_frames().get(self._watched)
        if frame is None:
            return "its end"
        inner = traceback.extract_stack(frame)[-4:]
        return " < ".join(f"{_short(one.filename)}:{one.lineno} in {one.name}" for one in reversed(inner))


def _short(path: str) -> str:
    """From the current folder where it is below."""
    return path.removeprefix(f"{os.getcwd()}{os.sep}")
