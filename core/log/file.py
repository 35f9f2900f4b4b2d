"""The file of a run's log, which a full disk does not end: a line is in it whole or not at all."""

import logging
import os
from contextlib import suppress
from pathlib import Path

from events.disk import OncePerMinute

log = logging.getLogger("signalbox.log")


class LogFile(logging.Handler):
    """Appends each record as a line. What cannot be written is lost, and the other handlers are told once a minute."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._descriptor: int | None = None
        self._told = OncePerMinute()
        self._is_telling = False

    def emit(self, record: logging.LogRecord) -> None:
        if self._is_telling:
            return
        try:
            line = self.format(record)
        except Exception:
            self.handleError(record)
            return
        try:
            self._append(f"{line}\n".encode("utf-8", errors="backslashreplace"))
        except OSError as error:
            self._tell(error)

    def close(self) -> None:
        self.acquire()
        try:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None
        finally:
            self.release()
        super().close()

    def _append(self, line: bytes) -> None:
        """Raises OSError, and then the file ends where it ended before."""
        if self._descriptor is None:
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        size, rest = os.fstat(self._descriptor).st_size, memoryview(line)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._descriptor, size)
            raise

    def _tell(self, error: OSError) -> None:
        if not self._told.is_due():
            return
        self._is_telling = True  # else the warning would be a line that cannot be written
        try:
            log.warning(
                "%s cannot be written: %s; training goes on%s", self._path.name, error.strerror or error,
                self._told.times(),
            )  # fmt: skip
        finally:
            self._is_telling = False
