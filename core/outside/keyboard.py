"""Single keys of the terminal that a run was started in, without Enter, and the terminal as it was before afterwards.

A run that is sent to the background, or stopped with Ctrl-Z, leaves the terminal to the shell; back in the foreground it
listens again. Ctrl-C and Ctrl-Z do what they always do.
"""

import atexit
import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

LOOK_SECONDS = 0.2
"""How often is looked whether the terminal is still ours; keys are heard at once."""
MOST_AT_ONCE = 3
"""What comes in one piece and is longer is no typing, but something that was pasted, or a key such as an arrow."""
END_SECONDS = 2.0


def terminal_of_input() -> int | None:
    """The descriptor of standard input where that is a terminal whose keys can be read one by one, else None."""
    try:
        import termios  # noqa: F401  # not on Windows

        descriptor = sys.stdin.fileno()
    except (ImportError, AttributeError, OSError, ValueError):  # no stdin at all, or one that is no file
        return None
    return descriptor if os.isatty(descriptor) else None


class Keyboard:
    """Calls `pressed` with each key, in a thread of its own, until it is closed."""

    def __init__(self, descriptor: int, pressed: Callable[[str], None]) -> None:
        self._descriptor = descriptor
        self._pressed = pressed
        self._before: list[Any] | None = None
        """The terminal's mode, as others left it."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="signalbox-keys", daemon=True)

    def start(self) -> None:
        atexit.register(self.close)  # for a process that ends without closing its plugins
        self._thread.start()

    def close(self) -> None:
        """Stop listening, and give the terminal its mode back. A second call does nothing."""
        self._ended.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(END_SECONDS)
        before, self._before = self._before, None
        if before is not None and self._is_ours():
            self._set(before)
        atexit.unregister(self.close)

    def _listen(self) -> None:
        signal.pthread_sigmask(
            signal.SIG_BLOCK, {signal.SIGTTIN, signal.SIGTTOU}
        )  # an error, and the run is not stopped
        while not self._ended.is_set():
            if not self._is_ours():
                self._ended.wait(LOOK_SECONDS)
                continue
            self._take()
            ready, _, _ = select.select([self._descriptor], [], [], LOOK_SECONDS)
            if ready and not self._ended.is_set() and self._is_ours() and not self._read():
                return

    def _read(self) -> bool:
        """Whether there may be more to come."""
        try:
            typed = os.read(self._descriptor, 1024).decode(errors="replace")
        except OSError:
            return not self._ended.wait(LOOK_SECONDS)  # in the background since a moment ago, or hung up
        if len(typed) <= MOST_AT_ONCE and not typed.startswith("\x1b"):
            for key in typed:
                self._pressed(key)
        return bool(typed)

    def _take(self) -> None:
        """Have keys come at once and unseen, where others set the terminal to whole lines."""
        import termios

        with suppress(termios.error):
            mode = termios.tcgetattr(self._descriptor)
            if mode[3] & termios.ICANON:
                self._before = [*mode[:6], [*mode[6]]]
                mode[3] &= ~(termios.ICANON | termios.ECHO)
                mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
                self._set(mode, drop_typed=True)  # what was typed before was not meant for us

    def _set(self, mode: list[Any], *, drop_typed: bool = False) -> None:
        """With the new mode in force nothing is dropped any more, so that no key can fall between the two."""
        import termios

        with suppress(termios.error):  # hung up
            termios.tcsetattr(self._descriptor, termios.TCSAFLUSH if drop_typed else termios.TCSANOW, mode)

    def _is_ours(self) -> bool:
        """Whether the terminal listens to this process: it is in the foreground."""
        with suppress(OSError):
            return os.tcgetpgrp(self._descriptor) == os.getpgrp()
        return False
