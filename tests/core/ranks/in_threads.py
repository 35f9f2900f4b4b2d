"""Several ranks within one process: a thread for each, with its own connections to a real store."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from core.ranks.board import Board
from core.ranks.crew import LaunchedCrew
from core.ranks.environment import Place
from core.ranks.one_machine import open_store
from tests.small_runs import ROOT

Result = TypeVar("Result")
STORE = """
from time import sleep
from core.ranks.one_machine import open_store
store = open_store()
print(store.port, flush=True)
sleep(600)
"""
PATIENCE_SECONDS = 120.0
"""Within which everything here ends unless something stands still."""


@contextmanager
def places_of(count: int) -> Iterator[list[Place]]:
    """Of so many ranks whose store is here for as long."""
    store = open_store()
    yield _places(count, store.port)
    del store


@contextmanager
def places_with_launcher(count: int) -> Iterator[tuple[list[Place], "subprocess.Popen[str]"]]:
    """Of ranks whose store is kept by a process that can be killed."""
    with subprocess.Popen([sys.executable, "-c", STORE], stdout=subprocess.PIPE, text=True, cwd=ROOT) as launcher:
        assert launcher.stdout is not None
        try:
            yield _places(count, int(launcher.stdout.readline())), launcher
        finally:
            launcher.kill()


def each(ranks: Sequence[Any], work: Callable[[Any], Result]) -> list[Result]:
    """What the work of every rank returns, each in a thread; raises what went wrong in the first that failed."""
    with ThreadPoolExecutor(len(ranks)) as pool:
        return [future.result(PATIENCE_SECONDS) for future in [pool.submit(work, rank) for rank in ranks]]


class CountingBoard(Board):
    """Counts what it asks of the store."""

    asked = 0

    def post(self, key: str, value: Any) -> None:
        self.asked += 1
        super().post(key, value)

    def read(self, key: str) -> Any:
        self.asked += 1
        return super().read(key)

    def post_first(self, key: str, value: Any) -> Any:
        self.asked += 1
        return super().post_first(key, value)

    def contribute(self, key: str, part: Any) -> None:
        self.asked += 1
        super().contribute(key, part)

    def hear(self, key: str, seconds: float) -> Any:
        self.asked += 1
        return super().hear(key, seconds)


class ThreadCrew(LaunchedCrew):
    """A rank in a thread. torch has one process group a process, so what it would exchange goes over the board."""

    def join(self, timeout_seconds: float) -> None:
        self._bell.begin(timeout_seconds)

    def gather(self, value: Any) -> list[Any]:
        return self.outcomes("an exchange", value)


def lockstep(count: int) -> threading.Barrier:
    """What gradients are to ranks: none goes on before all have come."""
    return threading.Barrier(count, timeout=PATIENCE_SECONDS)


def _places(count: int, port: int) -> list[Place]:
    return [Place(rank=rank, count=count, port=port) for rank in range(count)]
