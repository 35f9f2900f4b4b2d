"""What a running session says of itself every two seconds, in `record/now.json`, for whoever looks on."""

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

from events.disk import OncePerMinute

from ..history.facts import RECORD, Facts, HandlerTime

log = logging.getLogger("signalbox.view")
NOW = "now.json"
PATIENCE_SECONDS = 2.0
"""How long the end waits for a disk that is slow."""


class LaneFacts(Facts):
    """The lane of a plugin's async handlers."""

    plugin: str
    blocked_seconds: float
    """How long training has waited for room in it."""
    dropped: int
    """Events that were never handled."""


class Now(Facts):
    """A moment of a session that goes on."""

    pid: int
    time: str
    """UTC, ISO 8601."""
    step: int
    steps: int
    loss: float | None = None
    """The newest; None before the first, and when it is not finite."""
    images_per_second: float
    eta_seconds: float
    data_fraction: float
    """Share of the time since training began that the loop waited for data, in [0, 1]."""
    lag_seconds: float = 0.0
    """The largest lag of the loop of async handlers so far."""
    lanes: tuple[LaneFacts, ...] = ()
    times: tuple[HandlerTime, ...] = ()
    """The dearest first."""


class NowWriter:
    """Writes what it is given, beside the thread that gives it: handing over costs that one about a microsecond."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._given: SimpleQueue[Callable[[], Now] | None] = SimpleQueue()
        self._told = OncePerMinute()
        self._thread = Thread(target=self._work, name="signalbox-view-now", daemon=True)
        self._thread.start()

    def give(self, make: Callable[[], Now]) -> None:
        """`make` is called when it is written."""
        self._given.put(make)

    def close(self) -> None:
        """When what was given is written."""
        self._given.put(None)
        self._thread.join(PATIENCE_SECONDS)

    def _work(self) -> None:
        while (make := self._given.get()) is not None:
            try:
                write_now(self._run, make())
            except OSError as error:
                if self._told.is_due():
                    log.warning("how far the run is cannot be written: %s", error)


def write_now(run: Path, now: Now) -> None:
    """Replace the file as a whole. Raises OSError, and then the one before is still there."""
    path = run / RECORD / NOW
    path.parent.mkdir(mode=0o700, exist_ok=True)
    temporary = path.with_name(f".{NOW}.{os.getpid()}")
    try:
        temporary.write_text(now.model_dump_json(), encoding="utf-8")
        os.replace(temporary, path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise
