"""Checkpoints written beside training: one thread, at most one checkpoint at a time, no failure lost."""

import errno
import logging
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, perf_counter

from .contents import Contents
from .folder import CheckpointFolder

log = logging.getLogger("signalbox.train")
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 5.0, 300.0
"""Between a save that failed and the next attempt; each wait is twice the one before."""
LAST_ATTEMPTS = 3
"""To save at the end of a run, before it ends without."""
LAST_WAIT_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A checkpoint to be written."""

    step: int
    reason: str
    contents: Contents
    going: tuple[int, ...]
    """Steps whose checkpoints go once this one is whole."""
    arrived: Callable[[], None]
    """Waits until the contents are complete on the host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """How a job went: its folder or what went wrong, and how long it took in the thread."""

    job: Job
    path: Path | None
    error: BaseException | None
    seconds: float


class Writer:
    """Writes the checkpoints of one run."""

    def __init__(self, folder: CheckpointFolder) -> None:
        self.folder = folder
        self._thread: threading.Thread | None = None
        self._written: Written | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a job has been handed over whose outcome has not been taken."""
        return self._thread is not None

    def hand_over(self, job: Job) -> None:
        """Begin to write. The outcome of the job before must have been taken."""
        assert self._thread is None, "one checkpoint at a time"
        self._written = None
        self._thread = threading.Thread(target=self._work, args=(job,), name="signalbox-checkpoint", daemon=True)
        self._thread.start()

    def outcome(self, *, wait: bool) -> Written | None:
        """How the job in hand went, once; None while it is being written, or when there is none."""
        if self._thread is None:
            return None
        if wait:
            while self._thread.is_alive():
                self._thread.join(timeout=0.2)  # so that signals are taken meanwhile
        elif self._thread.is_alive():
            return None
        self._thread, written = None, self._written
        return written

    def _work(self, job: Job) -> None:
        begun = perf_counter()
        path, failure = None, None
        try:
            path = self._write(job)
        except BaseException as error:
            failure = error
        self._written = Written(job=job, path=path, error=failure, seconds=perf_counter() - begun)

    def _write(self, job: Job) -> Path:
        job.arrived()
        parts = job.contents.parts
        if parts is not None and not parts.is_main:
            parts.contribute()
            return self.folder.folder
        return self.folder.save(job.step, job.contents, job.going)


class Patience:
    """When to try again after a save that failed."""

    def __init__(self) -> None:
        self.is_failing = False
        """Whether the last save failed and none has succeeded since."""
        self._wait_seconds = FIRST_WAIT_SECONDS
        self._due: float | None = None

    def succeeded(self) -> None:
        self.is_failing = False
        self._wait_seconds, self._due = FIRST_WAIT_SECONDS, None

    def failed(self) -> float:
        """The seconds until the next attempt."""
        wait, self.is_failing = self._wait_seconds, True
        self._due = monotonic() + wait
        self._wait_seconds = min(2 * wait, LONGEST_WAIT_SECONDS)
        return wait

    @property
    def is_over(self) -> bool:
        """Whether an attempt is due; once."""
        if self._due is None or monotonic() < self._due:
            return False
        self._due = None
        return True


def why_not_saved(error: OSError, job: Job, folder: Path) -> str:
    """What kept a checkpoint from being saved, with the space that it needs where that is the reason."""
    if error.errno in NO_SPACE:
        needed, free = job.contents.bytes / 1e6, free_bytes(folder) / 1e6
        return f"checkpoint not saved: needs {needed:,.1f} MB, {free:,.1f} MB free in {folder}"
    return f"checkpoint not saved: {error.strerror or error} in {folder}"


def room_problem(needed: int, folder: Path) -> str:
    """Why a checkpoint of so many bytes would not fit on the disk; empty where it does."""
    free = free_bytes(folder)
    if free >= needed:
        return ""
    return (
        f"a checkpoint of this run needs about {needed / 1e6:,.1f} MB, and {free / 1e6:,.1f} MB are free in"
        f" {folder}; make room, or name another place as run.dir"
    )


def free_bytes(folder: Path) -> int:
    """On the disk of the nearest folder that is there."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free
