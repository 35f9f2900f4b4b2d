"""A file of cached tensors by key: SQLite keeps it whole when a process is killed or two of them write at once.

Each entry carries a digest of its own bytes and key, so that a damaged one is seen when it is read and made anew.
"""

import json
import logging
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from hashlib import blake2b
from pathlib import Path
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from events.disk import is_disk_trouble

log = logging.getLogger("signalbox.cache")
SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (key BLOB PRIMARY KEY, about TEXT NOT NULL, seal BLOB NOT NULL, data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
SEAL_BYTES = 16
OUT_OF_REACH = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM}
)
"""SQLite's codes for a disk that does not take what is written."""
WAIT_SECONDS = 60.0
"""How long a write waits for that of another process."""


class Store:
    """Entries of one product, such as latents. Open it in each process that uses it; it is picklable as its path."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None

    def __getstate__(self) -> Any:
        return self.path

    def __setstate__(self, path: Path) -> None:
        self.path, self._connection = path, None

    def read(self, key: bytes) -> dict[str, Tensor] | None:
        """The entry's tensors; None when there is none, or it is not whole."""
        try:
            row = self._open().execute("SELECT seal, data FROM entries WHERE key = ?", (key,)).fetchone()
            if row is None or _seal(key, row[1]) != row[0]:
                return None
            return load(row[1]) if row[1] else {}
        except sqlite3.DatabaseError:
            return None

    def holds(self, key: bytes) -> bool:
        """Whether there is such an entry, whole or not."""
        return self._open().execute("SELECT 1 FROM entries WHERE key = ?", (key,)).fetchone() is not None

    def write(self, entries: Iterable[tuple[bytes, Mapping[str, Tensor], Mapping[str, Any]]]) -> None:
        """Put (key, tensors, about) rows in, all or none; `about` says in plain values what an entry is of."""
        rows = []
        for key, tensors, about in entries:
            data = save(dict(tensors)) if tensors else b""
            rows.append((key, json.dumps(about), _seal(key, data), data))
        connection = self._open()
        with connection:
            connection.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?)", rows)

    def compare(self, needed: Iterable[bytes]) -> "Comparison":
        """Hold the keys that a run needs against those that are here."""
        connection = self._open()
        with connection:
            connection.execute("CREATE TEMP TABLE IF NOT EXISTS needed (key BLOB PRIMARY KEY)")
            connection.execute("DELETE FROM needed")
            connection.executemany("INSERT OR IGNORE INTO needed VALUES (?)", ((key,) for key in needed))
        return Comparison(connection)

    def remove(self, keys: Iterable[bytes]) -> None:
        """Take entries out and give their space back."""
        connection = self._open()
        with connection:
            connection.executemany("DELETE FROM entries WHERE key = ?", ((key,) for key in keys))
        connection.execute("VACUUM")

    def remove_unreadable(self) -> None:
        """Take out the notes that a picture could not be read, so that it is tried again."""
        connection = self._open()
        with connection:
            connection.execute("DELETE FROM entries WHERE length(data) = 0")

    def note(self, name: str) -> Any:
        """A plain value that `set_note` stored, or None."""
        row = self._open().execute("SELECT value FROM notes WHERE name = ?", (name,)).fetchone()
        return None if row is None else json.loads(row[0])

    def set_note(self, name: str, value: Any) -> None:
        connection = self._open()
        with connection:
            connection.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (name, json.dumps(value)))

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def set_aside(self) -> Path:
        """Move a file that SQLite cannot use out of the way, for a new one to take its place."""
        self.close()
        aside = self.path.with_name(f"{self.path.name}.corrupt")
        self.path.replace(aside)
        for ending in ("-wal", "-shm"):
            Path(f"{self.path}{ending}").unlink(missing_ok=True)
        log.warning("%s is damaged; it was moved to %s and is made anew", self.path, aside.name)
        return aside

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self.path, timeout=WAIT_SECONDS, check_same_thread=False)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.executescript(SCHEMA)
            self._connection = connection
        return self._connection


class Comparison:
    """What a run needs against what a store holds, worked out by SQLite and never held in memory as a whole."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @property
    def reused(self) -> int:
        return self._count("needed WHERE key IN (SELECT key FROM entries)")

    @property
    def missing(self) -> int:
        return self._count("needed WHERE key NOT IN (SELECT key FROM entries)")

    @property
    def orphaned(self) -> int:
        return self._count("entries WHERE key NOT IN (SELECT key FROM needed)")

    def orphans(self) -> Iterator[tuple[bytes, dict[str, Any], int]]:
        """(key, about, bytes) of what the run does not need."""
        rows = self._connection.execute(
            "SELECT key, about, length(data) FROM entries WHERE key NOT IN (SELECT key FROM needed)"
        )
        with closing(rows):
            for key, about, size in rows:
                yield key, json.loads(about), size

    def _count(self, rows: str) -> int:
        found: int = self._connection.execute(f"SELECT COUNT(*) FROM {rows}").fetchone()[0]  # noqa: S608  # ours above
        return found


def is_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether SQLite says that the file itself is broken, rather than that it is locked or the disk full."""
    return error.sqlite_errorcode in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or "malformed" in str(error)


def is_out_of_reach(error: BaseException) -> bool:
    """Whether the disk is full, fails or may not be written, so that no entry can be put in."""
    if isinstance(error, OSError):
        return is_disk_trouble(error) or isinstance(error, PermissionError | FileExistsError | NotADirectoryError)
    return isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF in OUT_OF_REACH


def _seal(key: bytes, data: bytes) -> bytes:
    return blake2b(data, key=key, digest_size=SEAL_BYTES).digest()
