"""A folder on a disk that has no room left: a real one where mounting is permitted, and what it would say elsewhere."""

import builtins
import errno
import io
import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from .injectors import fill, small_disk

MEGABYTES = 4


class FullDisk:
    """Takes its place when `begin` is called in a run's process, and room is made by `end`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast: Path | None = None
        self._is_full = False
        self._databases: list[sqlite3.Connection] = []

    def begin(self, *, full: bool = True) -> None:
        if small_disk(self.folder, MEGABYTES):
            if full:
                self.fill()
            return
        self._is_full = full
        self.folder.mkdir(parents=True, exist_ok=True)
        os.write = self._refusing_write(os.write)
        builtins.open = io.open = self._refusing_open(builtins.open)
        sqlite3.connect = self._watched(sqlite3.connect)  # type: ignore[assignment]

    def fill(self) -> None:
        self._is_full = True
        self._close_databases()
        if os.path.ismount(self.folder):
            self._ballast = fill(self.folder)

    def end(self) -> None:
        self._is_full = False
        if self._ballast is not None:
            self._ballast.unlink()

    def _close_databases(self) -> None:
        """To what is written, which is as near as that comes without a disk of their own."""
        for database in self._databases if self._is_full else ():
            with suppress(sqlite3.ProgrammingError):  # closed, or another thread's
                database.execute("PRAGMA query_only = ON")

    def _refuse(self, path: Any) -> None:
        place = f"/proc/self/fd/{path}" if isinstance(path, int) else path
        if self._is_full and Path(os.path.realpath(place)).is_relative_to(self.folder):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    def _refusing_write(self, real: Callable[..., int]) -> Callable[..., int]:
        def write(descriptor: int, data: Any) -> int:
            self._refuse(descriptor)
            return real(descriptor, data)

        return write

    def _refusing_open(self, real: Callable[..., Any]) -> Any:
        def opened(path: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            if set(mode) & set("wax+"):
                self._refuse(path)
            return real(path, mode, *arguments, **options)

        return opened

    def _watched(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def connected(path: Any, *arguments: Any, **options: Any) -> Any:
            connection = real(path, *arguments, **options)
            if str(path).startswith(str(self.folder)):
                self._databases.append(connection)
                self._close_databases()
            return connection

        return connected
