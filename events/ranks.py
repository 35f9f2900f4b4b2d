"""The processes that train one run together, as a plugin sees them. One process alone is rank 0 of 1.

A collective is an exchange that every rank takes part in, in the same order: one that waits for another that never comes
stands still. So plugins may begin one only in a handler that declares it, ``@on("epoch.end", ranks="all",
collective=True)``, which the bus calls on every rank at the same place of the run.
"""

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from .errors import CollectiveRefused

On = Literal["main", "all"]
"""Where a handler runs: on rank 0 alone, for what is to happen once, or on every rank, for what changes the run."""


class Ranks:
    """Those of a run. This one is of a run with one process."""

    rank: int = 0
    """This process's number, from 0."""
    count: int = 1
    """How many there are."""

    @property
    def is_main(self) -> bool:
        """Whether this is the one that writes what is written once."""
        return self.rank == 0

    @property
    def are_several(self) -> bool:
        return self.count > 1

    def gather(self, value: Any) -> list[Any]:
        """The value of every rank, by rank, on every rank, where all come at once; values are such as JSON knows.

        Waits for the others. Alone a value comes back as one that has travelled.
        """
        return [json.loads(json.dumps(value))]

    def outcomes(self, what: str, value: Any) -> list[Any]:
        """As `gather`, where ranks may come hours apart; `what` is waited for, in words."""
        return self.gather(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """A handler that declares collectives, while it runs."""

    thread: int
    what: str
    """The handler and its signal."""
    is_step: bool
    """Its signal fires with the steps, to which all ranks come at once."""


class PluginRanks:
    """What `Plugin.ranks` is: which rank this is, and an exchange for handlers that declare it."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._open: Opening | None = None

    @property
    def rank(self) -> int:
        """This process's number, from 0."""
        return self._ranks.rank

    @property
    def count(self) -> int:
        """How many processes train this run."""
        return self._ranks.count

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, on which handlers run by default."""
        return self._ranks.is_main

    def gather(self, value: Any) -> list[Any]:
        """The value of every rank, by rank; numbers, strings, lists and dicts of them, as JSON has them.

        Waits for the others: at signals of steps as long as a step may take, at others for as long as it takes. Raises
        CollectiveRefused outside a handler with `collective=True`, also where there is one process, and TypeError for
        what JSON does not know.
        """
        opening = self._open
        if opening is None or opening.thread != threading.get_ident():
            raise CollectiveRefused(
                "ranks.gather waits for every rank, so it is only called in a handler that runs on each of them and says so:"
                ' @on(..., ranks="all", collective=True)'
            )
        return self._ranks.gather(value) if opening.is_step else self._ranks.outcomes(opening.what, value)

    def join(self, ranks: Ranks) -> None:
        """For the bus: these are the processes from now on."""
        self._ranks = ranks

    @contextmanager
    def opened(self, what: str, *, is_step: bool) -> Generator[None, None, None]:
        """For the bus: within, this thread may exchange."""
        before = self._open
        self._open = Opening(thread=threading.get_ident(), what=what, is_step=is_step)
        try:
            yield
        finally:
            self._open = before


ALONE = Ranks()
