"""How far a run had come, beyond its newest checkpoint: a few bytes that say so however its process ends."""

import os
from contextlib import suppress
from pathlib import Path

NAME = "position"
DIGITS = 20


class StepMark:
    """The step that was taken last, in a file that is overwritten in place at each boundary (about a microsecond)."""

    def __init__(self, folder: Path | None) -> None:
        """None: where another process of the run has it."""
        self._descriptor: int | None = None
        if folder is None:
            return
        with suppress(OSError):  # a mark is a courtesy; a run without one only cannot say what a kill has cost
            self._descriptor = os.open(folder / NAME, os.O_WRONLY | os.O_CREAT, 0o600)

    def note(self, step: int) -> None:
        if self._descriptor is not None:
            with suppress(OSError):
                os.pwrite(self._descriptor, f"{step:0{DIGITS}d}\n".encode(), 0)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def marked_step(folder: Path) -> int:
    """The step that was taken last, 0 where nothing says."""
    try:
        return int((folder / NAME).read_bytes()[: DIGITS + 1])
    except (OSError, ValueError):
        return 0
