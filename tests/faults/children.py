"""Forked processes that a trial begins and looks at the end of."""

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import forkserver
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Ended:
    """A child that has ended."""

    code: int
    """As the shell's, or minus the number of the signal that killed it."""
    output: str
    seconds: float

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL


@dataclass
class Child:
    """A forked child in a session of its own."""

    pid: int
    log: Path
    begun: float = field(default_factory=time.monotonic)
    _code: int | None = None

    def send(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self, timeout: float = 60.0) -> Ended:
        """Its end; a child that takes longer is killed, and AssertionError says so."""
        while self._code is None and time.monotonic() - self.begun < timeout:
            self._poll()
            time.sleep(0.002)
        is_late = self._code is None
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)  # its workers too
        if is_late:
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        assert self._code is not None
        ended = Ended(self._code, self.log.read_text(errors="replace"), time.monotonic() - self.begun)
        assert not is_late, f"it has not ended after {timeout:.0f} s:\n{ended.output[-2000:]}"
        return ended

    @property
    def is_running(self) -> bool:
        self._poll()
        return self._code is None

    def _poll(self) -> None:
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if pid else None


def start_own_workers() -> None:
    """In a fork: a server of loader workers that was started before is no child of this process; have another one."""
    module: Any = forkserver
    server = module._forkserver  # there is no public way to forget one
    if server._forkserver_pid is None:
        return

    def ensure_running() -> None:
        modules = server._preload_modules
        del server.ensure_running
        server.__init__()
        server.set_forkserver_preload(modules)
        module.ensure_running = server.ensure_running
        server.ensure_running()

    module.ensure_running = server.ensure_running = ensure_running
