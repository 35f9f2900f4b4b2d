"""Processes and what they have started: found, adopted, and ended so that nothing is left of them."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress

import psutil

ADOPT_ORPHANS = 36
"""PR_SET_CHILD_SUBREAPER of Linux's prctl."""


def ending_of(code: int) -> str:
    """How a rank ended that has not said why.

    >>> ending_of(1)
    'ended with exit code 1 and has not said why; what it printed may'
    """
    if code >= 0:
        return f"ended with exit code {code} and has not said why; what it printed may"
    said = f"was killed by {signal.Signals(-code).name}"
    return said + (", as the system does when memory runs out" if code == -signal.SIGKILL else "")


def has_terminal() -> bool:
    """Whether this process and those that it starts have a terminal to be interrupted from, wherever they read and write."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


@contextmanager
def adopting_orphans() -> Generator[None, None, None]:
    """Within, this process becomes the parent of what a rank leaves behind, where the system has that; elsewhere such
    processes end by themselves."""
    _adopt_orphans(1)
    try:
        yield
    finally:
        _adopt_orphans(0)


def _adopt_orphans(whether: int) -> None:
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(ADOPT_ORPHANS, whether, 0, 0, 0)


def end(rank: subprocess.Popen[bytes]) -> None:
    """Kill it, stopped or not, with all that it has started."""
    for process in children_of(rank.pid):
        with suppress(psutil.Error):
            process.kill()
    rank.kill()


def children_of(pid: int) -> list[psutil.Process]:
    """And theirs."""
    try:
        found: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []
    return found
