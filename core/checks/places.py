"""Places that a run writes to: whether they can be written, hold a checkpoint, and are free."""

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from ..cache.caches import store_path
from ..cache.store import WAIT_SECONDS
from ..checkpoint.writer import free_bytes, room_problem
from ..config.tables import Config
from ..run_folder.folder import current_folder
from .findings import Findings

LOCKED = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
"""SQLite's codes for a file that another process is writing."""
LOOK_SECONDS = 1.0
"""How long a lock is waited for; a run that fills a cache holds it for moments."""


def look_at_places(config: Config, found: Findings) -> None:
    """A run needs its folder; without a cache it would go on, and take longer."""
    if problem := problem_with_writing(current_folder(config)):
        found.problems.append(f"run.dir  {problem}; name another place")
    if problem := problem_with_writing(config.cache.dir):
        found.say("cache", f"{problem}; training goes on without what is missing there, and takes longer")
    for is_on, path in (
        (config.cache.latents, store_path(config.cache.dir, "latents")),
        (config.cache.text, store_path(config.cache.dir, "text")),
    ):
        if is_on and is_locked_long(path):
            found.problems.append(
                f"cache.dir  {path} is being written by another process; a run waits {WAIT_SECONDS:.0f} s for it and"
                " then ends, so wait for that process, or name another place"
            )


def look_at_disk(checkpoint_bytes: int, folder: Path, found: Findings) -> None:
    """Whether a checkpoint of this size fits on the disk of a run's folder."""
    if problem := room_problem(checkpoint_bytes, folder):
        found.problems.append(problem)
        return
    free = free_bytes(folder) / 1e6
    found.say("disk", f"a checkpoint takes about {checkpoint_bytes / 1e6:,.1f} MB, and {free:,.0f} MB are free")


def problem_with_writing(folder: Path) -> str:
    """Why nothing can be written to a folder, or to one that would be made there; empty where it can."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        return f"{place} is no folder"
    try:
        with tempfile.TemporaryFile(dir=place):
            return ""
    except OSError as error:
        return f"{place} cannot be written ({error.strerror})"


def is_locked_long(path: Path) -> bool:
    """Whether another process keeps a cache from being written for longer than a moment."""
    if not path.is_file():
        return False
    try:
        address = f"{path.resolve().as_uri()}?mode=rw"
        with closing(sqlite3.connect(address, uri=True, timeout=LOOK_SECONDS, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        return error.sqlite_errorcode & 0xFF in LOCKED
    except sqlite3.DatabaseError:  # a damaged one is set aside, and made anew
        return False
    return False
