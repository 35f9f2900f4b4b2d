"""Real commands that start real processes, watched until the last of these is gone."""

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil

MARK = "SIGNALBOX_WATCHED"
"""A variable that every process of a command inherits, also one that nobody is the parent of any more."""
LIMIT_SECONDS = 300.0


@dataclass(frozen=True)
class Seen:
    """How a command has ended."""

    code: int
    output: str
    left: Sequence[str]
    """Processes that it had started, directly or not, and which were still there when it had ended."""
    seconds: float
    """From the moment that the note tells of, if there is one, to the end."""


@dataclass
class Watched:
    """A command that goes on."""

    process: "subprocess.Popen[str]"
    mark: str
    output: Path
    begun: float = field(default_factory=time.time)

    def wait(self, note: Path | None = None) -> Seen:
        """Its end; `note` has the moment of the harm that was done to it, as `Harm` writes it."""
        self.process.wait(LIMIT_SECONDS)
        ended = time.time()
        left = [described(process) for process in self.processes()]
        self.kill()
        since = float(note.read_text().split()[0]) if note is not None else self.begun
        return Seen(self.process.returncode, self.output.read_text(errors="replace"), left, ended - since)

    def processes(self) -> list[psutil.Process]:
        """Of the command that are there, itself excepted, and those that wait to be reaped."""
        return [one for one in marked(self.mark) if one.pid != self.process.pid]

    def rank(self, number: int) -> psutil.Process:
        """The process that is this rank, once it is there."""
        return until(lambda: next((one for one in self.processes() if is_rank(one, number)), None))

    def says(self, words: str) -> None:
        """Wait until it has said this."""
        until(lambda: words in self.output.read_text(errors="replace"))

    def kill(self) -> None:
        for process in marked(self.mark):
            with suppress(psutil.Error):
                process.kill()
        self.process.wait()


def watch(
    command: Sequence[str], folder: Path, *, environment: Mapping[str, str] | None = None, **options: Any
) -> Watched:
    """Start a command whose output goes to a file in the folder."""
    mark = uuid4().hex
    output = folder / f"output-{mark}"
    with output.open("w") as stream:
        process = subprocess.Popen(
            command, stdout=stream, stderr=subprocess.STDOUT, text=True, **options,
            env=os.environ | {"OMP_NUM_THREADS": "1", MARK: mark} | dict(environment or {}),
        )  # fmt: skip
    return Watched(process, mark, output)


def marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def is_rank(process: psutil.Process, number: int) -> bool:
    """Whether it is a rank and no worker of one."""
    with suppress(psutil.Error):
        parent = process.parent()
        is_first = parent is None or parent.environ().get("RANK") != str(number)
        return process.environ().get("RANK") == str(number) and is_first
    return False


def until(condition: Callable[[], Any], seconds: float = 120.0) -> Any:
    """What the condition gives, once it gives something. Raises AssertionError when it does not."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"it did not come to hold within {seconds:g} s"
        time.sleep(0.02)
    return found


def described(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return f"{process.pid} {process.status()} {' '.join(process.cmdline())[:200]}"
    return str(process.pid)
