"""Rooms for loader workers in which things go wrong at a task of one's choice."""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, MutableSequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from events.payloads import SampleKey


@dataclass
class Maker:
    """As much of a maker as a worker needs."""

    items: list[Any] = field(default_factory=lambda: [SimpleNamespace(path=Path(f"{n}.png")) for n in range(100)])
    at_work: MutableSequence[int] = field(default_factory=lambda: [-1])


@dataclass
class Room:
    """Squares the number of an item; at item `at` it first does what `trouble` says, once where there is a marker."""

    trouble: str = ""
    at: int = -1
    marker: Path | None = None
    maker: Any = field(default_factory=Maker)

    def __getitem__(self, key: SampleKey) -> Any:
        item = self.maker.at_work[0] = key.item
        if item == self.at and not (self.marker and self.marker.exists()):
            if self.marker:
                self.marker.touch()
            return TROUBLES[self.trouble]()
        return item * item


@dataclass
class RoomThatCannotTravel(Room):
    """Raises when it is made anew in a worker."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        raise LookupError("no such plugin here")


def fail_oddly() -> None:
    class Local(Exception):
        """Of no module, and with an argument that cannot travel."""

    raise Local("odd", lambda: None)


def sleep_for_ever() -> None:
    while True:
        time.sleep(1000)


TROUBLES: dict[str, Callable[[], Any]] = {
    "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "_exit": lambda: os._exit(3),
    "SIGSEGV": lambda: ctypes.string_at(0),
    "odd exception": fail_oddly,
    "odd result": lambda: lambda: None,
    "exit": lambda: sys.exit("enough"),
    "sleep": sleep_for_ever,
}
