"""Another program, run within a time and ended with all that it started, without a shell."""

import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import IO

LOOK_SECONDS = 0.1
"""How often is looked whether it has ended."""
FAREWELL_SECONDS = 3.0
"""Between asking a program to end and ending it."""
LAST_LINES = 10
LAST_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program has ended."""

    why: str
    """Empty where it succeeded."""
    last_lines: str
    """Of what it printed."""


def run_command(command: Sequence[str], *, timeout_seconds: float, ended: threading.Event) -> Ended:
    """Run a program and wait for it, at most so long, and only until `ended` is set; then it is ended.

    It has a session of its own, so that Ctrl-C does not reach it, and an empty standard input.
    """
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(  # noqa: S603  # a list of words of the user's own config, and no shell
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )  # fmt: skip
        except (OSError, ValueError) as error:
            return Ended(f"it cannot be started: {error}", "")
        until = monotonic() + timeout_seconds
        while process.poll() is None and monotonic() < until and not ended.wait(LOOK_SECONDS):
            pass
        why = _why(process, until)
        _end(process)
        return Ended(why, _last_lines(output))


def _why(process: "subprocess.Popen[bytes]", until: float) -> str:
    code = process.poll()
    if code is None:
        return "it took too long" if monotonic() >= until else "the run is over"
    return f"exit code {code}" if code else ""


def _end(process: "subprocess.Popen[bytes]") -> None:
    """With the processes of its session, where it has not ended by itself."""
    for number in (signal.SIGTERM, signal.SIGKILL) if process.poll() is None else ():
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(FAREWELL_SECONDS)


def _last_lines(output: IO[bytes]) -> str:
    output.seek(max(output.seek(0, os.SEEK_END) - LAST_BYTES, 0))
    text = output.read().decode(errors="replace").replace("\r", "\n")
    return "\n".join([line for line in text.splitlines() if line.strip()][-LAST_LINES:])
