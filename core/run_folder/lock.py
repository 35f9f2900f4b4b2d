"""One trainer a run: the folder is locked for as long as a process works on it, and free the moment that it is gone."""

import json
import logging
import os
import socket
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import ConfigError

log = logging.getLogger("signalbox.run")
LOCK, OWNER = "run.lock", "run.owner.json"
BLINK_SECONDS = 0.3
"""How long to try: whoever looks whether a run is held holds it for a moment."""


@contextmanager
def locked(folder: Path) -> Generator[None, None, None]:
    """Hold a run's folder. Raises ConfigError that names who holds it.

    The lock is the kernel's, so that of a killed process is gone with it. Where the file system knows no locks, a warning
    says so and the run goes on.
    """
    lock = FileLock(folder / LOCK, mode=0o600)
    try:
        lock.acquire(timeout=BLINK_SECONDS, poll_interval=0.05)
    except Timeout:
        raise ConfigError("run", [held_text(folder)]) from None
    except (OSError, NotImplementedError) as error:
        log.warning("%s cannot be locked (%s); make sure that no other process trains it", folder, error)
        yield
        return
    try:
        (folder / OWNER).write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}) + "\n")
        yield
    finally:
        lock.release()


def held_text(folder: Path) -> str:
    """Who holds a run's folder, and what to do."""
    return f"{folder} is being trained by {_owner(folder)}; wait for it, or use --fresh"


def _owner(folder: Path) -> str:
    try:
        owner = json.loads((folder / OWNER).read_text(encoding="utf-8"))
        return f"process {owner['pid']} on {owner['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
