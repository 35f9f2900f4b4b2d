"""A store of keys that every rank reads and writes: the way to wait for another rank for as long as that takes.

The launcher keeps it, so it outlives every rank. Whoever waits here looks now and then; it is no collective, so nothing
times out while another rank encodes for an hour, and what ended another rank is heard of at once.
"""

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from time import monotonic, sleep
from typing import Any, Self

from torch.distributed import DistStoreError, PrefixStore, TCPStore  # type: ignore[attr-defined]  # public by its documentation

from ..errors import LostRankError, OtherRankError
from .environment import Place

PREFIX = "signalbox"
CAUSE = "cause"
"""Of the end of the first rank that had one."""
SAVING = "saving"
"""Posted by a rank that saves what was trained after an error, for as long as it does."""
WELL = "well"
"""Posted by a rank that has come to its end as it should; one that has not is a failure, whatever its exit code."""
STOP = "stop"
"""Posted by a rank that is asked to stop while it waits, or while it works on what others wait for."""
SIGNS = "signs"
"""How often a rank has told that its work goes on."""
FIRST_LOOK_SECONDS, LONGEST_LOOK_SECONDS = 0.002, 0.25
CONNECT_SECONDS = 60.0
CAUSE_SECONDS = 3.0
"""How long a rank that has lost contact waits to hear why."""


class Board:
    """One connection to the store; each thread needs its own."""

    def __init__(self, place: Place) -> None:
        """Raises LostRankError where nobody keeps a store."""
        self._place = place
        try:
            connection = TCPStore(
                place.host, place.port, is_master=False, wait_for_workers=False,
                timeout=timedelta(seconds=CONNECT_SECONDS),
            )  # fmt: skip
        except RuntimeError as error:  # of torch, which has no kinds of its own for it
            raise LostRankError(
                f"rank {place.rank} finds no launcher at {place.host}:{place.port} ({error})"
            ) from error
        self._store = PrefixStore(PREFIX, connection)
        self._lock = threading.Lock()

    @property
    def rank(self) -> int:
        """Whose it is."""
        return self._place.rank

    def another(self) -> Self:
        """A connection of its own, for another thread."""
        return type(self)(self._place)

    def post(self, key: str, value: Any) -> None:
        with self._lock:
            self._store.set(key, json.dumps(value))

    def read(self, key: str) -> Any:
        """What was posted, or None. Waits for nothing but the store."""
        with self._lock:
            return json.loads(self._store.get(key)) if self._store.check([key]) else None

    def post_first(self, key: str, value: Any) -> Any:
        """Post unless another has; returns what stands there."""
        with self._lock:
            return json.loads(self._store.compare_set(key, "", json.dumps(value)))

    def contribute(self, key: str, part: Any) -> None:
        """One rank's part of a list; the last that comes puts all parts under the key, by rank.

        So whoever waits reads one key, however many ranks there are.
        """
        ranks = range(self._place.count)
        with self._lock:
            self._store.set(f"{key}/{self._place.rank}", json.dumps(part))
            if self._store.add(f"{key}/came", 1) == len(ranks):
                parts = self._store.multi_get([f"{key}/{rank}" for rank in ranks])
                self._store.set(key, json.dumps([json.loads(one) for one in parts]))

    def missing(self, key: str) -> list[int]:
        """The ranks whose part of that list has not come."""
        return [rank for rank in range(self._place.count) if self.read(f"{key}/{rank}") is None]

    def tell_sign(self) -> None:
        """Of life, to those who wait."""
        with self._lock:
            self._store.add(SIGNS, 1)

    def hear(self, key: str, seconds: float) -> Any:
        """What stands under a key, waiting for it that long without looking; None when nothing came."""
        with suppress(DistStoreError):  # which is what nothing within that time is
            self._store.wait([key], timedelta(seconds=seconds))
            return json.loads(self._store.get(key))
        return None

    def wait_for(
        self, key: str, seconds: float, *, missing: Callable[[], str], meanwhile: Callable[[], object] = bool
    ) -> Any:
        """What stands under the key, once it does; `meanwhile` is called at every look.

        Raises OtherRankError when a rank has ended, and LostRankError, in the words of `missing`, when nothing has come
        and no rank has given a sign of life for so many seconds.
        """
        changed, known, look = monotonic(), self.read(SIGNS), FIRST_LOOK_SECONDS
        while (value := self.read(key)) is None:
            self.raise_cause()
            meanwhile()
            if (now := self.read(SIGNS)) != known:
                changed, known = monotonic(), now
            elif monotonic() - changed > seconds:
                raise LostRankError(missing())
            sleep(look)
            look = min(look * 1.5, LONGEST_LOOK_SECONDS)
        return value

    def tell_cause(self, said: str, exit_code: int) -> bool:
        """Say why this rank ends; whether it is the first to."""
        cause = {"rank": self._place.rank, "said": said, "exit_code": exit_code}
        return bool(self.post_first(CAUSE, cause)["rank"] == self._place.rank)

    def raise_cause(self) -> None:
        """Raises OtherRankError when another rank has told why it ends."""
        cause = self.read(CAUSE)
        if cause is not None and cause["rank"] != self._place.rank:
            raise OtherRankError.of(cause["rank"], cause["said"], cause["exit_code"])

    def wait_for_cause(self) -> None:
        """As `raise_cause`, after giving a rank that is about to end the time to say why."""
        until = monotonic() + CAUSE_SECONDS
        while monotonic() < until:
            self.raise_cause()
            sleep(0.05)
