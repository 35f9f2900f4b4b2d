"""The processes of one run. `Crew` is that of a run with one; `LaunchedCrew` that of several, which a launcher started."""

import json
import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from difflib import ndiff
from hashlib import blake2b
from time import monotonic
from typing import Any, Self

import torch
import torch.distributed as dist
from torch import Tensor

from events.control import Control
from events.ranks import Ranks

from ..config.tables import DistributedTable
from ..errors import ConfigError, LostRankError, OtherRankError, exit_code_of
from .bell import Bell
from .board import SAVING, STOP, WELL, Board
from .environment import Place
from .lost import STOPPING_SECONDS, Silence, as_heard

log = logging.getLogger("signalbox.ranks")
Value = Any
"""Such as JSON knows: numbers, strings, lists and dicts of them."""
MOST_SHOWN = 12
LOOK_SECONDS = 0.5
"""Between two looks at whether another rank is to stop."""


class Crew(Ranks):
    """A run with one process: nobody to wait for, nobody to ask."""

    place = Place()
    board: Board | None = None

    def from_main(self, what: str, make: Callable[[], Value]) -> Value:
        """What `make` returns on the main rank, on every rank; the others wait for as long as it takes."""
        return make()

    def together(self, what: str) -> None:
        """Wait until every rank is done with `what`, however long that takes each of them."""

    def outcomes(self, what: str, value: Value) -> list[Value]:
        """As `gather`, where ranks may come hours apart."""
        return [value]

    def occasion(self, what: str) -> str:
        """A name for the board that no other occasion has, the same on every rank that comes to it."""
        return what

    def require_same(self, what: str, lines: Sequence[str]) -> None:
        """Raises ConfigError where the lines differ from those of the main rank."""

    def gather_bytes(self, value: bytes) -> list[bytes]:
        """Of every rank, by rank. A collective."""
        return [value]

    def add_rows(self, rows: Tensor) -> list[Tensor]:
        """(R, C) float32 of every rank, by rank, where all have the same shape. A collective."""
        return [rows]

    def sign_of_life(self, sign: Value) -> None:
        """Tell those who wait that work goes on, such as how many pictures are encoded; the same again tells nothing."""

    def heed(self, control: Control) -> None:
        """From now on the others hear of a stop that is asked of this rank also while it waits for them."""

    def is_to_stop(self, control: Control) -> bool:
        """Whether this rank or another is asked to stop, for work between meetings that takes long; ask as often as you like.

        `control` is this rank's. The stop itself stays asked for until the ranks meet.
        """
        return control.is_asked("stop")

    def is_called(self) -> bool:
        """At a step boundary: whether ranks meet here because one of them asked to."""
        return False

    def call(self) -> None:
        """Ask the others to meet at a boundary that all of them still have before them."""

    @contextmanager
    def told(self) -> Generator[None, None, None]:
        """What fails within because another rank has ended is raised as that one's end."""
        yield

    def tell_cause(self, error: BaseException, exit_code: int) -> bool:
        """Say to the others why this rank ends; whether it is the first to, so that users are to be shown it."""
        return True

    @contextmanager
    def saving(self) -> Generator[None, None, None]:
        """Have the launcher give this rank the time that it takes to save."""
        yield

    def join(self, timeout_seconds: float) -> None:
        """Open the way for exchanges on the host, which wait that long. A collective."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave."""


class LaunchedCrew(Crew):
    """Several processes. `join` comes once torch's process group is there."""

    def __init__(self, place: Place, *, wait_seconds: float = 7200.0) -> None:
        """Raises LostRankError where the launcher is not found."""
        self.place = place
        self.rank, self.count = place.rank, place.count
        self.board: Board = Board(place)
        self._wait_seconds = wait_seconds
        self._occasions = 0
        """Counted by every rank alike, since all come to the same ones in the same order."""
        self._timeout_seconds = 0.0
        self._group: Any = None
        self._bell = Bell(self.board, place)
        self._control: Control | None = None
        self._is_stopping = False
        self._looked_at = float("-inf")
        self._last_sign: Value = None

    def join(self, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._group = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout_seconds))
        self._bell.begin(timeout_seconds)

    def from_main(self, what: str, make: Callable[[], Value]) -> Value:
        key = self.occasion(what)
        if self.is_main:
            value = make()
            self.board.post(key, value)
            return json.loads(json.dumps(value))  # the same on every rank
        return self._wait(key, what, lambda: [0])

    def together(self, what: str) -> None:
        self.outcomes(what, True)

    def outcomes(self, what: str, value: Value) -> list[Value]:
        key = self.occasion(what)
        self.board.contribute(key, value)
        return list(self._wait(key, what, lambda: self.board.missing(key)))

    def require_same(self, what: str, lines: Sequence[str]) -> None:
        text = "\n".join(lines)
        digest = blake2b(text.encode(), digest_size=16).hexdigest()
        key = self.occasion(what)
        if self.is_main:
            self.board.post(f"{key}/text", text)
        found = self.outcomes(what, digest)
        if len(set(found)) == 1:
            return
        if digest == found[0]:  # the others tell
            self.board.wait_for_cause()
            others = ", ".join(str(rank) for rank, one in enumerate(found) if one != digest)
            raise ConfigError("the processes", [f"ranks {others} have another {what} than rank 0"])
        changed = [
            line for line in ndiff(self.board.read(f"{key}/text").split("\n"), list(lines)) if line[:2] in ("- ", "+ ")
        ]
        shown = "".join(f"\n    {line}" for line in changed[:MOST_SHOWN])
        raise ConfigError(
            "the processes",
            [
                f"rank {self.rank} has another {what} than rank 0 (- rank 0, + rank {self.rank}); give all the same:{shown}"
            ],
        )

    def gather(self, value: Value) -> list[Value]:
        return [json.loads(one) for one in self.gather_bytes(json.dumps(value).encode())]

    def gather_bytes(self, value: bytes) -> list[bytes]:
        size = torch.tensor([len(value)])
        sizes = [torch.zeros_like(size) for _ in range(self.count)]
        self._collective(dist.all_gather, sizes, size)
        most = int(max(sizes))
        if not most:
            return [b""] * self.count
        padded = torch.zeros(most, dtype=torch.uint8)
        padded[: len(value)] = torch.frombuffer(bytearray(value), dtype=torch.uint8) if value else padded[:0]
        found = [torch.zeros_like(padded) for _ in range(self.count)]
        self._collective(dist.all_gather, found, padded)
        return [one[: int(length)].numpy().tobytes() for one, length in zip(found, sizes, strict=True)]

    def add_rows(self, rows: Tensor) -> list[Tensor]:
        rows = rows.contiguous()
        found = [torch.zeros_like(rows) for _ in range(self.count)]
        self._collective(dist.all_gather, found, rows)
        return found

    def sign_of_life(self, sign: Value) -> None:
        if sign != self._last_sign:
            self._last_sign = sign
            self.board.tell_sign()

    def heed(self, control: Control) -> None:
        self._control = control

    def is_to_stop(self, control: Control) -> bool:
        if control.is_asked("stop"):
            self._tell_stopping()
        elif not self._is_stopping and monotonic() - self._looked_at > LOOK_SECONDS:
            self._looked_at = monotonic()
            self._is_stopping = self.board.read(STOP) is not None
        return self._is_stopping

    def is_called(self) -> bool:
        return self._bell.is_meeting()

    def call(self) -> None:
        self._bell.ring()

    @contextmanager
    def told(self) -> Generator[None, None, None]:
        try:
            yield
        except BaseException as error:
            heard = as_heard(error, self.board, self._bell, self._timeout_seconds)
            if heard is error:
                raise
            raise heard from error

    def tell_cause(self, error: BaseException, exit_code: int) -> bool:
        if isinstance(error, OtherRankError):
            return False
        try:
            return self.board.tell_cause(str(error), exit_code)
        except RuntimeError:  # the launcher is gone, and each hears of it by itself
            return self.is_main

    @contextmanager
    def saving(self) -> Generator[None, None, None]:
        self._post(SAVING, self.rank)
        try:
            yield
        finally:
            self._post(SAVING, None)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._post(f"{WELL}/{self.rank}", True)
        self.close()

    def close(self) -> None:
        self._bell.close()

    def _post(self, key: str, value: Value) -> None:
        """For the launcher to read, which may be gone."""
        with suppress(RuntimeError):
            self.board.post(key, value)

    def _collective(self, exchange: Callable[..., Any], *arguments: Any) -> None:
        exchange(*arguments, group=self._group)

    def occasion(self, what: str) -> str:
        self._occasions += 1
        log.debug("occasion %d: %s", self._occasions, what)  # of two ranks that wait for each other, the logs say where
        return f"{self._occasions}/{what}"

    def _wait(self, key: str, what: str, awaited: Callable[[], Sequence[int]]) -> Value:
        def missing() -> str:
            ranks = ", ".join(map(str, awaited()))
            return (
                f"rank {self.rank} has waited {self._wait_seconds:g} s for rank {ranks} ({what}) without a sign of life;"
                f" the last checkpoint stands. Raise distributed.wait_seconds if that is how long it takes"
                f"{self._bell.whereabouts()}"
            )

        silence = Silence(self._bell, awaited, what)

        def meanwhile() -> None:
            is_to_stop = self._control is not None and self._control.is_asked("stop")
            if is_to_stop:
                self._tell_stopping()
            silence.look(STOPPING_SECONDS if is_to_stop else self._timeout_seconds)

        return self.board.wait_for(key, self._wait_seconds, missing=missing, meanwhile=meanwhile)

    def _tell_stopping(self) -> None:
        if not self._is_stopping:
            self._is_stopping = True
            self.board.post(STOP, self.rank)


def is_first_to_tell(error: BaseException, place: Place, crew: Crew | None) -> bool:
    """Whether this rank is the first to say why the run ends, also one that has not come to its crew."""
    if crew is not None:
        return crew.tell_cause(error, exit_code_of(error))
    if isinstance(error, OtherRankError):
        return False
    try:
        return Board(place).tell_cause(str(error), exit_code_of(error))
    except (RuntimeError, LostRankError):  # there is no launcher to tell
        return True


ONE = Crew()


def crew_of(place: Place, settings: DistributedTable) -> Crew:
    """Those that were launched, or this process alone. Raises LostRankError where the launcher is not found."""
    return LaunchedCrew(place, wait_seconds=settings.wait_seconds) if place.are_several else ONE
