"""Runs of several processes on the bench: the product's launcher, whose ranks are forked from it and so are warm."""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.small_runs import ROOT, sets

from .bench import Bench, Child, Ended, Workspace, command
from .children import start_own_workers

Inject = Callable[[int], object]
"""Called with its number in each rank, before its run."""
OPEN_FILES = Path("/dev/fd")
LIMIT_SECONDS = 60.0
"""That a run of several processes may take."""


@dataclass
class ForkedRank:
    """What the launcher knows of a process, of one that was forked and not started."""

    pid: int
    returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self) -> int:
        while self.poll() is None:
            time.sleep(0.005)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def begin_ranks(
    bench: Bench,
    work: Workspace,
    *overrides: str,
    count: int = 2,
    inject: Inject | None = None,
    in_launcher: Callable[[], object] | None = None,
) -> Child:
    """Start `run.py train --processes N` in a forked child, which forks the ranks in the place of starting Python anew."""

    def run() -> int:
        os.chdir(ROOT)
        launch_warm(inject)
        if in_launcher is not None:
            in_launcher()
        arguments = ("train", str(work.config), *sets(overrides))
        return command(*arguments, *(("--processes", str(count)) if count > 1 else ()))

    return bench.start(run)


def train_ranks(bench: Bench, work: Workspace, *overrides: str, count: int = 2) -> "Group":
    """`begin_ranks`, and wait for the end."""
    return wait_for_group(begin_ranks(bench, work, *overrides, count=count))


def launch_warm(inject: Inject | None) -> None:
    """From now on the launcher of this process forks its ranks."""
    from core.ranks import launch, one_machine

    before = open_files()

    def start(self: Any, rank: int, port: int) -> ForkedRank:
        sys.stdout.flush()
        sys.stderr.flush()
        if pid := os.fork():
            return ForkedRank(pid)
        if rank:
            os.setpgid(0, 0)
        for number in open_files() - before:  # of the store above all, which a started process would not have either
            with suppress(OSError):
                os.close(number)
        for number in launch.FORWARDED:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        os.environ.update(one_machine.environment(rank, self.count, port))
        start_own_workers()
        code = 1
        try:
            if inject is not None:
                inject(rank)
            code = command(*sys.argv[1:])
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    launch.Launcher._start = start  # type: ignore[assignment,method-assign]  # it has what the launcher asks of one


def open_files() -> set[int]:
    return {int(name) for name in os.listdir(OPEN_FILES)}


@dataclass(frozen=True)
class Group:
    """How the processes of a run have ended."""

    ended: Ended
    left: Sequence[str]
    """Processes of it that were still there when the launcher had ended."""
    seconds: float
    """From the harm that was noted to the end of the last of them."""

    @property
    def code(self) -> int:
        return self.ended.code

    @property
    def output(self) -> str:
        return self.ended.output


def wait_for_group(child: Child, note: Path | None = None, *, patience_seconds: float = 0.0) -> Group:
    """The end of the launcher; what is left of its session then is told, and killed.

    Where nobody is there any more to see to it, ranks are given `patience_seconds` to end by themselves.
    """
    until = time.monotonic() + LIMIT_SECONDS
    while child.is_running and time.monotonic() < until:
        time.sleep(0.005)
    until = time.monotonic() + patience_seconds
    while session_of(child.pid) and time.monotonic() < until:
        time.sleep(0.02)
    now, processes = time.time(), session_of(child.pid)
    left = [described(process) for process in processes]
    for process in processes:
        with suppress(psutil.Error):
            process.kill()
    ended = child.wait(LIMIT_SECONDS + patience_seconds + 1)
    begun = float(note.read_text().split()[0]) if note is not None and note.exists() else now
    return Group(ended, left, now - begun)


def session_of(leader: int) -> list[psutil.Process]:
    """The processes of a session but its leader, those that wait to be reaped left out."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            is_its = process.pid != leader and os.getsid(process.pid) == leader
            if is_its and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def described(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return f"{process.pid} {process.status()} {' '.join(process.cmdline())[:120]}"
    return str(process.pid)
