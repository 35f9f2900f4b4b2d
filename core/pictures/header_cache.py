"""What is known of picture files, remembered between runs by path, size and time of change in one SQLite file.

Several processes of one machine may use it at once. SQLite's write-ahead log does not work over network file systems.
"""

import logging
import os
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import __version__ as pillow_version

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger("signalbox.data.scan")

Check = Literal["headers", "decode"]
Entry = tuple[Path, int, int]
"""A file with its size in bytes and its time of change in nanoseconds."""
SCHEMA = 1
LOCK_SECONDS = 60.0
"""How long one process waits for another that is writing."""
DAMAGE = frozenset({sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
"""SQLite's codes for a file that is broken or somebody else's; others, such as a full disk, say nothing about it."""
TABLES = """
CREATE TABLE IF NOT EXISTS pillow (version TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS folders (id INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS files (
    folder INTEGER NOT NULL, name BLOB NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    decoded INTEGER NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL, content BLOB NOT NULL,
    alpha INTEGER NOT NULL, frames INTEGER NOT NULL, reason TEXT NOT NULL, checksum INTEGER NOT NULL,
    PRIMARY KEY (folder, name)
) WITHOUT ROWID;
"""
Row = tuple[int, int, int, int, int, bytes, int, int, str]
"""size, mtime_ns, decoded, width, height, content, alpha, frames, reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What is known of a picture before it is used."""

    width: int
    height: int
    """In pixels, upright."""
    content: bytes
    """A BLAKE2b digest (RFC 7693) of 16 bytes of the file's bytes; empty when it was not computed."""
    alpha: bool
    """Whether it can be transparent."""
    frames: int


class HeaderCache:
    """Remembers of each file either its header or why it cannot be used. Without a path, in memory only.

    It never stops a run: a damaged file is set aside as *.corrupt and begun anew; where none can be written, what is
    learnt is remembered in memory. Either is warned of. It belongs to the thread that made it.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._inode = 0
        self._folder_at_hand = ("", 0)
        self._database = self._open()

    def __enter__(self) -> "HeaderCache":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._database.close()

    def lookup_many(
        self, entries: Iterable[Entry], *, check: Check = "headers", hashes: bool = False
    ) -> Iterator[Header | str | None]:
        """For each file in order its header, the reason it cannot be used, or None where it must be (re)read.

        It must when it has changed, or was checked less than `check` and `hashes` ask. A reason that decoding gave
        does not count where only headers are checked, so that a run does not depend on what an earlier one looked at.
        Files of one folder in a row are found fastest.
        """
        for path, size, mtime_ns in entries:
            parent, name = os.path.split(path)
            folder = self._folder(parent)
            row = self._row(folder, os.fsencode(name)) if folder else None
            yield None if row is None or row[:2] != (size, mtime_ns) else _known(row, check, hashes)

    def remember_many(self, results: Iterable[tuple[Entry, Header | str]], *, check: Check) -> None:
        """Store what reading gave, in one transaction."""
        rows = [
            (os.path.split(path), _row(size, mtime_ns, result, check)) for (path, size, mtime_ns), result in results
        ]
        try:
            with self._database:
                self._database.execute("BEGIN IMMEDIATE")
                folders = {parent: self._add_folder(parent) for parent in {parent for (parent, _), _ in rows}}
                self._database.executemany(
                    "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    ((folders[place[0]], name := os.fsencode(place[1]), *row, _sum(name, row)) for place, row in rows),
                )
        except sqlite3.Error as error:
            self._recover(error)

    def _row(self, folder: int, name: bytes) -> Row | None:
        """What is stored of a file, or None."""
        try:
            found = self._database.execute(
                "SELECT size, mtime_ns, decoded, width, height, content, alpha, frames, reason, checksum"
                " FROM files WHERE folder = ? AND name = ?",
                (folder, name),
            ).fetchone()
            if found is not None and found[-1] != _sum(name, found[:-1]):
                raise Damaged("a row does not match its checksum")
        except sqlite3.Error as error:
            self._recover(error)
            return None
        return None if found is None else found[:-1]

    def _folder(self, parent: str) -> int:
        """Its number, 0 when no file of it is known."""
        known, folder = self._folder_at_hand
        if parent == known and folder:
            return folder
        try:
            found = self._database.execute("SELECT id FROM folders WHERE path = ?", (_absolute(parent),)).fetchone()
        except sqlite3.Error as error:
            self._recover(error)
            return 0
        self._folder_at_hand = (parent, int(found[0]) if found else 0)
        return self._folder_at_hand[1]

    def _add_folder(self, parent: str) -> int:
        self._database.execute("INSERT OR IGNORE INTO folders (path) VALUES (?)", (_absolute(parent),))
        (folder,) = self._database.execute("SELECT id FROM folders WHERE path = ?", (_absolute(parent),)).fetchone()
        return int(folder)

    def _open(self, error: sqlite3.Error | None = None) -> sqlite3.Connection:
        """The database at the path, a new one where it is damaged, in memory where there can be none.

        `error` is what ended the use of the one before.
        """
        if self._path is None:
            return _connect(":memory:")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with _alone(self._path):
                if error is not None:
                    self._set_aside(error)
                try:
                    return self._connect_here(self._path)
                except sqlite3.Error as damage:
                    self._set_aside(damage)
                    return self._connect_here(self._path)
        except (sqlite3.Error, OSError) as problem:
            log.warning("%s: cannot be used (%s); headers are remembered for this run only", self._path, problem)
            self._path = None
            return _connect(":memory:")

    def _connect_here(self, path: Path) -> sqlite3.Connection:
        self._inode = _inode(path)
        database = _connect(path)
        self._inode = _inode(path)
        return database

    def _recover(self, error: sqlite3.Error) -> None:
        """After an error of the database: go on with a new one, or in memory."""
        self._folder_at_hand = ("", 0)
        self._database.close()
        self._database = self._open(error)

    def _set_aside(self, error: sqlite3.Error) -> None:
        """Rename a damaged database, unless another process has. Raises the error when it is none of damage."""
        if self._path is None or not _is_damage(error):
            raise error
        if self._inode == _inode(self._path) != 0:
            for suffix in ("-wal", "-shm"):
                Path(f"{self._path}{suffix}").unlink(missing_ok=True)
            os.replace(self._path, f"{self._path}.corrupt")
            log.warning("%s: is damaged (%s); set aside as %s.corrupt and begun anew", self._path, error, self._path)


class Damaged(sqlite3.DatabaseError):
    """Contents that cannot be trusted."""


def _inode(path: Path) -> int:
    """What tells a file from another that took its name; 0 when there is none."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Only one process of a machine is inside at a time, where the system has such locks; a killed one lets go."""
    with open(f"{path}.lock", "wb") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_damage(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(error, Damaged) or (code is not None and code & 0xFF in DAMAGE)


def _connect(path: Path | str) -> sqlite3.Connection:
    """A database with our tables. What an older Pillow could not read is forgotten: this one may."""
    database = sqlite3.connect(path, timeout=LOCK_SECONDS, isolation_level=None)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        with database:
            database.execute("BEGIN IMMEDIATE")
            (schema,) = database.execute("PRAGMA user_version").fetchone()
            if schema not in (0, SCHEMA):
                raise Damaged(f"its schema is {schema}, not {SCHEMA}")
            for statement in filter(str.strip, TABLES.split(";")):
                database.execute(statement)
            database.execute(f"PRAGMA user_version = {SCHEMA}")
            if database.execute("SELECT version FROM pillow").fetchall() != [(pillow_version,)]:
                database.execute("DELETE FROM files WHERE reason <> ''")
                database.execute("DELETE FROM pillow")
                database.execute("INSERT INTO pillow VALUES (?)", (pillow_version,))
    except BaseException:
        database.close()
        raise
    return database


def _known(row: Row, check: Check, hashes: bool) -> Header | str | None:
    """What a stored row says, or None when it was checked less than is asked for."""
    _, _, decoded, width, height, content, alpha, frames, reason = row
    if reason:
        return reason if not decoded or check == "decode" else None
    if (check == "decode" and not decoded) or (hashes and not content):
        return None
    return Header(width=width, height=height, content=content, alpha=bool(alpha), frames=frames)


def _row(size: int, mtime_ns: int, result: Header | str, check: Check) -> Row:
    decoded = int(check == "decode")
    if isinstance(result, str):
        return size, mtime_ns, decoded, 0, 0, b"", 0, 0, result
    return (
        size, mtime_ns, decoded, result.width, result.height, result.content, int(result.alpha), result.frames, "",
    )  # fmt: skip


def _sum(name: bytes, row: Row) -> int:
    return zlib.crc32(repr(row).encode(), zlib.crc32(name))


def _absolute(parent: str) -> bytes:
    return os.fsencode(os.path.abspath(parent))
