"""The server of a live view as a child of the process that trains."""

import json
import logging
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ..invocation import typed
from .address import Address

log = logging.getLogger("signalbox.view")
STARTS = 2
"""A server that dies is started once more."""
PATIENCE_SECONDS = 4.0
"""How long it may take to say farewell to its pages; then it is ended."""
ROOT = Path(__file__).resolve().parents[2]
"""The folder that `core` is in."""


class ViewProcess:
    """Serves a run's folder until it is closed, or until this process is gone, however it went."""

    def __init__(self, folder: Path, *, host: str, port: int, token: str, tell: Callable[[Address], None]) -> None:
        """`tell` gets the address, in a thread, as soon as the server is there."""
        self._folder = folder
        self._host = host
        self._port = port
        self._token = token
        self._tell = tell
        self._process: subprocess.Popen[bytes] | None = None
        self._changing = threading.Lock()
        self._is_closed = False
        self._minder: threading.Thread | None = None

    @property
    def pid(self) -> int | None:
        """Of the newest server."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Returns at once."""
        self._minder = threading.Thread(target=self._mind, name="signalbox-view", daemon=True)
        self._minder.start()

    def close(self) -> None:
        """End it, within about ten seconds at the longest."""
        with self._changing:
            self._is_closed, process = True, self._process
        if process is None:
            return
        _close_input(process)
        for end in (process.terminate, process.kill):
            try:
                process.wait(PATIENCE_SECONDS)
                break
            except subprocess.TimeoutExpired:
                end()
        if self._minder is not None:
            self._minder.join(PATIENCE_SECONDS)

    def _mind(self) -> None:
        for _ in range(STARTS):
            try:
                process = self._begin()
            except OSError as error:
                log.warning("the live view cannot be started: %s", error)
                return
            if process is None:
                return
            last = self._listen_to(process)
            code = process.wait()
            _close_input(process)
            if self._is_closed:
                return
            log.warning("the live view has ended with code %d%s", code, f": {last}" if last else "")
        log.warning("the live view is not started again; %s shows the run", typed(f"view {self._folder}"))

    def _begin(self) -> "subprocess.Popen[bytes] | None":
        """None when it was closed meanwhile."""
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
        command = [
            sys.executable,
            "-m",
            "core.view",
            str(self._folder),
            "--host",
            self._host,
            "--port",
            str(self._port),
        ]
        with self._changing:
            if self._is_closed:
                return None
            process = self._process = subprocess.Popen(  # noqa: S603  # this interpreter and a module of ours
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": path},
                start_new_session=True,  # Ctrl-C is for the run, which ends this when it has ended
            )  # fmt: skip
        assert process.stdin is not None
        with suppress(OSError, ValueError):  # ended already, or closed
            process.stdin.write(f"{self._token}\n".encode())
            process.stdin.flush()
        return process

    def _listen_to(self, process: "subprocess.Popen[bytes]") -> str:
        """Pass the address on, then wait for the end; returns the last that was said."""
        assert process.stdout is not None
        said: deque[str] = deque(maxlen=1)
        with process.stdout as lines:
            for raw in lines:
                line = raw.decode(errors="replace").strip()
                about = _first_line(line)
                if url := about.get("url", ""):
                    self._port = int(url.rstrip("/").rpartition(":")[2])  # one that is started again is found there
                    self._tell(Address(url, self._token))
                else:
                    said.append(about.get("problem", line))
        return said[0] if said else ""


def _close_input(process: "subprocess.Popen[bytes]") -> None:
    """By which a server that goes on learns that it is to end."""
    assert process.stdin is not None
    with suppress(OSError):
        process.stdin.close()


def _first_line(line: str) -> dict[str, str]:
    """What the server's first line says, and nothing of any other."""
    try:
        said = json.loads(line)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
