"""Programs in a terminal of their own, typed to and read as a person would."""

import os
import pty
import select
import subprocess
import sys
import termios
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from time import monotonic

from tests.small_runs import ROOT

PATIENCE_SECONDS = 120.0
TAKE_THE_TERMINAL = """
import os, signal, sys
os.close(os.open(os.ttyname(0), os.O_RDWR))
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""A program that leads a session has the first terminal that it opens. One that a shell has in the background takes no
interruptions, nor do those that it starts."""


def without_a_size(environment: Mapping[str, str]) -> dict[str, str]:
    """That of the test's own terminal, which would count before the real one's."""
    return {name: value for name, value in environment.items() if name not in ("COLUMNS", "LINES")}


class Terminal:
    """One, with a program in it."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], size: tuple[int, int]) -> None:
        self._ours, theirs = pty.openpty()
        termios.tcsetwinsize(self._ours, size)
        self.process = subprocess.Popen(
            [sys.executable, "-c", TAKE_THE_TERMINAL, *command], stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT,
            env={**without_a_size(os.environ), "TERM": "xterm-256color", **environment}, start_new_session=True,
        )  # fmt: skip
        self._theirs = theirs
        self.text = ""
        """All that it has shown."""
        self._seen = 0

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def type_until(self, keys: str, words: str) -> None:
        """Type the same again and again, until it shows these words; for what may be taken together with the keys before."""
        until = monotonic() + PATIENCE_SECONDS
        while words not in self.text[self._seen :]:
            assert monotonic() < until, f"{words!r} never came:\n{self.text}"
            for _ in range(4):
                self._look()
            self.type(keys)

    def wait_for(self, words: str) -> None:
        """Wait until it shows these words, behind those that were waited for last."""
        until = monotonic() + PATIENCE_SECONDS
        while words not in self.text[self._seen :]:
            assert monotonic() < until, f"{words!r} never came:\n{self.text}"
            self._look()
        self._seen = self.text.index(words, self._seen) + len(words)

    def wait_for_mode(self, *, is_ours: bool) -> None:
        """Wait until keys come as they are pressed and unseen, or in whole lines as a shell wants them."""
        until = monotonic() + PATIENCE_SECONDS
        while self.is_cooked is is_ours:
            assert monotonic() < until, f"the terminal keeps its mode:\n{self.text}"
            self._look()

    @property
    def is_cooked(self) -> bool:
        """Whether it takes whole lines and shows what is typed."""
        flags = termios.tcgetattr(self._theirs)[3]
        return bool(flags & termios.ICANON) and bool(flags & termios.ECHO)

    def end(self) -> int:
        """Wait for the program's end; returns its exit code."""
        until = monotonic() + PATIENCE_SECONDS
        while self.process.poll() is None:
            assert monotonic() < until, f"it does not end:\n{self.text}"
            self._look()
        while self._look():
            pass
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._theirs)
        os.close(self._ours)

    def _look(self) -> bool:
        """Read what has come within a moment; whether there was anything."""
        ready, _, _ = select.select([self._ours], [], [], 0.05)
        if not ready:
            return False
        with suppress(OSError):
            self.text += os.read(self._ours, 1 << 16).decode(errors="replace")
        return True


@contextmanager
def terminal(
    *command: str, environment: Mapping[str, str] | None = None, size: tuple[int, int] = (24, 80)
) -> Generator[Terminal, None, None]:
    """`size` is (rows, columns). The first word of the command is a path."""
    one = Terminal(command, environment or {}, size)
    try:
        yield one
    finally:
        one.close()
