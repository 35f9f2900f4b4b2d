"""A file of lines that grows: each read gives what was added since the one before."""

import os
from pathlib import Path

CHUNK = 1 << 20
"""Bytes that are read at a time."""
PROOF = 64
"""Bytes before the place reached that must still be there."""


class Tail:
    """Of one file, which may be missing, be replaced by another, or be cut."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._place = 0
        """In bytes; all lines before it have been given."""
        self._identity: tuple[int, int] | None = None
        self._proof = b""

    def read(self) -> tuple[list[bytes], bool]:
        """(whole lines, whether they begin the file anew): True when what was given before is there no more."""
        try:
            file = self._path.open("rb")
        except OSError:
            return [], self._forget()
        with file:
            facts = os.fstat(file.fileno())
            identity = (facts.st_dev, facts.st_ino)
            file.seek(max(self._place - len(self._proof), 0))
            anew = self._identity not in (None, identity) or file.read(len(self._proof)) != self._proof
            if anew:
                self._forget()
                file.seek(0)
            self._identity = identity
            if not anew and facts.st_size == self._place:
                return [], False
            rest = b"".join(iter(lambda: file.read(CHUNK), b""))
        whole = rest[: rest.rfind(b"\n") + 1]  # a line that is being written comes with the next read
        self._place += len(whole)
        self._proof = (self._proof + whole)[-PROOF:]
        return whole.splitlines(), anew

    def _forget(self) -> bool:
        """Begin anew; whether anything had been given."""
        had = self._place > 0
        self._place, self._identity, self._proof = 0, None, b""
        return had
