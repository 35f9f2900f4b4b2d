"""How the processes of a run share a pass, and how all of them act on what one of them finds out.

A cache lies on one machine. Its processes fill it together, each the entries whose keys fall to it, and every machine
fills its own.
"""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from ..ranks.crew import Crew, Value
from ..ranks.divided import Divided
from .store import is_damage, is_out_of_reach

Result = TypeVar("Result")
SHARE_BYTES = 8
"""Of a key, that tell to which process of a machine it falls."""


class LeftToChance(Exception):
    """A transform before the encoder is random after all; `plugins` are named."""

    def __init__(self, plugins: Iterable[str]) -> None:
        self.plugins = tuple(sorted(plugins))
        super().__init__(", ".join(self.plugins))


class ReadsMore(Exception):
    """A transform before the encoder reads something of a sample that the keys do not hold yet."""

    def __init__(self, fields: Iterable[str]) -> None:
        self.fields = frozenset(fields)
        super().__init__(", ".join(sorted(fields)))


class OutOfReach(Exception):
    """The disk of a cache is full, fails or may not be written."""


class Damaged(Exception):
    """A cache's file is broken on these machines, told by the number of their first rank."""

    def __init__(self, machines: Iterable[int]) -> None:
        self.machines = frozenset(machines)
        super().__init__("the file of a cache is damaged, also after it was made anew")


def is_first_here(crew: Crew) -> bool:
    """Whether this process does what a machine does once."""
    return crew.place.local_rank == 0


def machine_of(crew: Crew) -> int:
    """The number of its first rank."""
    return crew.rank - crew.place.local_rank


def is_own(crew: Crew, key: bytes) -> bool:
    """Whether the entry of this key falls to this process."""
    place = crew.place
    return int.from_bytes(key[:SHARE_BYTES], "big") % place.local_count == place.local_rank


def agreed(crew: Crew, what: str, part: Callable[[Divided], Value]) -> list[Value]:
    """What every rank's part of a pass came to, by rank, once all are over.

    Where any rank found something out that a pass acts on, every rank raises the same: OutOfReach, Damaged,
    LeftToChance or ReadsMore, in this order, of all ranks together. Anything else ends the run.
    """
    work = Divided(crew, what)

    def find() -> Value:
        try:
            return {"result": part(work)}
        except FINDINGS as error:
            found = _told(crew, error)
            work.break_off()
            return found

    return _heard(work.results(find))


FINDINGS = (LeftToChance, ReadsMore, sqlite3.Error, OSError)


def _told(crew: Crew, error: Exception) -> Value:
    """A finding in words that travel. Raises the error where it is none."""
    if isinstance(error, LeftToChance):
        return {"chance": list(error.plugins)}
    if isinstance(error, ReadsMore):
        return {"fields": sorted(error.fields)}
    if is_out_of_reach(error):
        return {"trouble": f"rank {crew.rank}: {error}" if crew.are_several else str(error)}
    if isinstance(error, sqlite3.DatabaseError) and is_damage(error):
        return {"damaged": machine_of(crew)}
    raise error


def _heard(found: Sequence[Value]) -> list[Value]:
    troubles = [one["trouble"] for one in found if "trouble" in one]
    if troubles:
        raise OutOfReach("; ".join(troubles))
    if machines := [one["damaged"] for one in found if "damaged" in one]:
        raise Damaged(machines)
    if plugins := {name for one in found for name in one.get("chance", ())}:
        raise LeftToChance(plugins)
    if fields := {name for one in found for name in one.get("fields", ())}:
        raise ReadsMore(fields)
    return [one["result"] for one in found]
