"""A loader worker as the training process sees it: how it is started, spoken to, and found to have ended or to hang."""

import logging
import os
import signal
from collections import deque
from collections.abc import Iterable, MutableSequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from time import monotonic
from typing import Any

from .maker import NOWHERE
from .worker import work

log = logging.getLogger("signalbox.data")
QUIET_SECONDS = 0.2
"""Without another piece of a stack, after which it is whole."""
STACK_SECONDS = 5.0
"""How long a worker may take to say what it is doing."""
STACK_LINES = 12


@dataclass(slots=True, kw_only=True)
class Worker:
    """One process."""

    process: Any
    pipe: "Connection[Any, Any]"
    stacks: "Connection[Any, Any]"
    at_work: MutableSequence[int]
    """The number of the item that it is at, in memory that both share."""
    outstanding: "deque[tuple[int, Any]]" = field(default_factory=deque)
    """The tasks it has been given and not answered, with their numbers."""
    heard: float = field(default_factory=monotonic)
    """When it last said something."""
    is_ready: bool = False
    is_gone: bool = False


def start(context: Any) -> Worker:
    """A new one of a context of multiprocessing; it waits for its room."""
    pipe, theirs = context.Pipe()
    stacks, their_stacks = context.Pipe(duplex=False)
    at_work = context.RawArray("q", [NOWHERE])
    process = context.Process(target=work, args=(theirs, their_stacks, at_work), daemon=True)
    process.start()
    theirs.close()  # so that the pipe ends when the worker does
    their_stacks.close()
    return Worker(process=process, pipe=pipe, stacks=stacks, at_work=at_work)


def ask_for_stack(worker: Worker) -> None:
    """Have it write what it is doing, where the system has such signals."""
    if hasattr(signal, "SIGUSR1"):
        os.kill(worker.process.pid, signal.SIGUSR1)


def ending_of(code: int | None) -> str:
    """How a process ended, by its exit code.

    >>> ending_of(3), ending_of(-11)
    ('ended with code 3', 'was killed by SIGSEGV')
    """
    if code is None or code >= 0:
        return f"ended with code {code}"
    by = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"was killed by {by}" + (", perhaps since memory ran out," if by == "SIGKILL" else "")


def wait_for_all(sentinels: Iterable[int], seconds: float) -> None:
    """Until all of these processes have ended, but no longer than that."""
    running, until = set(sentinels), monotonic() + seconds
    while running and (left := until - monotonic()) > 0:
        running -= set(wait(list(running), left))


def send(worker: Worker, what: Any) -> None:
    """One that is gone is noticed elsewhere, and another is sent it again."""
    try:
        worker.pipe.send(what)
    except OSError:
        log.debug("a loader worker (pid %s) took nothing more in", worker.process.pid)


def stack_of(worker: Worker, seconds: float) -> str:
    """The innermost calls of the worker's main thread as it wrote them, waited for so long; empty when it wrote nothing."""
    if not wait([worker.stacks], seconds):
        return ""
    told = os.read(worker.stacks.fileno(), 1 << 16)
    while wait([worker.stacks], QUIET_SECONDS) and (more := os.read(worker.stacks.fileno(), 1 << 16)):
        told += more  # it is written piece by piece
    text = told.decode("utf-8", "replace")
    threads = [block for block in text.split("\n\n") if "most recent call first" in block]
    lines = threads[-1].splitlines()[1 : STACK_LINES + 1] if threads else []
    return ", most recent call first:\n  " + "\n  ".join(line.strip() for line in lines) if lines else ""
