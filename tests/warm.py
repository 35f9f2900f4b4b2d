"""Commands of `run.py` out of a process that is warm: it has imported torch once, on one thread, and forks for each of them.

Importing takes longer than a small run. What is forked goes the way of `run.py` from there on: its own arguments, folder,
environment and process group, its own exit code, and where there are several, a launcher and its ranks with their own
connections. Commands that are about the start of processes, or about accelerate's launcher, are started cold.
"""

import atexit
import gc
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from itertools import pairwise
from multiprocessing import util
from pathlib import Path
from typing import IO, Any

from tests.small_runs import ROOT

IMPORTED = (
    "core.run.session", "core.ranks.launch", "core.ranks.shared", "core.run_folder.folder", "core.data.worker", "diffusers",
    "transformers", "plugins.ema", "accelerate.utils", "torch.distributed.tensor", "torch.distributed.fsdp",
    "torch.nn.parallel", "torch._dynamo",
)  # fmt: skip
"""What a run imports on its way."""
START_COLD = util.spawnv_passfds  # type: ignore[attr-defined]  # not in its types


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One run."""

    arguments: tuple[str, ...]
    """After `run.py`."""
    count: int
    folder: str
    """The working folder, where plugins are looked for too."""
    environment: Mapping[str, str]
    words_apart: bool = False
    """Whether what goes to stderr is kept apart from what goes to stdout."""
    typed: str = ""
    """What it reads from stdin."""


@dataclass
class Forked:
    """A forked process, asked as a Popen is."""

    pid: int
    returncode: int | None = None

    def poll(self) -> int | None:
        return self._ended(os.WNOHANG)

    def wait(self, timeout: float | None = None) -> int | None:
        return self._ended(0)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _ended(self, options: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


@dataclass
class Started:
    """Ranks that wait to be told their place: forked before there is a thread in the process that they come from."""

    pipes: list[int] = field(default_factory=list)
    pids: list[int] = field(default_factory=list)

    def add(self, asked: Asked) -> None:
        told, tell = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(tell)
            _leave(partial(_be_rank, asked, told))
        os.close(told)
        self.pipes.append(tell)
        self.pids.append(pid)

    def tell(self, rank: int, variables: Mapping[str, str]) -> Forked:
        os.write(self.pipes[rank], json.dumps(dict(variables)).encode() + b"\n")
        os.close(self.pipes[rank])
        return Forked(self.pids[rank])


def run_warm(asked: Asked, timeout_seconds: float) -> tuple[int, str]:
    """Exit code, and what was printed. Raises TimeoutExpired, as subprocess does."""
    code, output, _ = _answer(asked, timeout_seconds)
    return code, output


def run_py(
    *arguments: str,
    cwd: Path = ROOT,
    environment: Mapping[str, str] | None = None,
    typed: str = "",
    timeout: float = 300,
) -> "subprocess.CompletedProcess[str]":
    """`python run.py ARGUMENTS` in a process of its own; `environment` in addition to that of the tests."""
    asked = _asked(arguments, cwd, environment, typed=typed, words_apart=True)
    code, output, errors = _answer(asked, timeout)
    return subprocess.CompletedProcess(["run.py", *arguments], code, output, errors)


@contextmanager
def start_py(
    *arguments: str, cwd: Path = ROOT, environment: Mapping[str, str] | None = None
) -> "Generator[Running, None, None]":
    """As `run_py`, and go on beside it; one at a time. It is killed at the end of the block where it still runs."""
    with _running(_asked(arguments, cwd, environment)) as running:
        yield running


def _asked(
    arguments: tuple[str, ...], cwd: Path, environment: Mapping[str, str] | None, **more: Any
) -> Asked:  # fmt: skip
    whole = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
    return Asked(arguments=arguments, count=1, folder=str(cwd), environment=whole, **more)


def _answer(asked: Asked, timeout_seconds: float) -> tuple[int, str, str]:
    with _running(asked) as running:
        code = running.wait(timeout_seconds)
        return code, running.output, running.errors


@contextmanager
def _running(asked: Asked) -> "Generator[Running, None, None]":
    server = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    with tempfile.NamedTemporaryFile() as file, tempfile.NamedTemporaryFile() as other:
        server.stdin.write(json.dumps(asdict(asked) | {"output": file.name, "errors": other.name}).encode() + b"\n")
        running = Running(
            int(server.stdout.readline()), asked.arguments, server.stdout, Path(file.name), Path(other.name)
        )
        try:
            yield running
        finally:
            running.end()


@dataclass
class Running:
    """A command that was started, asked as a Popen is."""

    pid: int
    arguments: tuple[str, ...]
    _codes: IO[bytes]
    _output: Path
    _errors: Path
    returncode: int | None = None

    @property
    def output(self) -> str:
        """What it has printed so far, to stderr too where that is not kept apart."""
        return self._output.read_text(errors="replace")

    @property
    def errors(self) -> str:
        return self._errors.read_text(errors="replace")

    def poll(self) -> int | None:
        """Its exit code once it has ended."""
        if self.returncode is None and select.select([self._codes], [], [], 0)[0]:
            self.returncode = int(self._codes.readline())
        return self.returncode

    def wait(self, timeout_seconds: float = 120) -> int:
        """Raises TimeoutExpired, as subprocess does, when it had to be killed for it."""
        timer = _Timer(self.pid, timeout_seconds)
        if self.returncode is None:
            with timer:
                self.returncode = int(self._codes.readline())
        if timer.is_over:
            raise subprocess.TimeoutExpired(self.arguments, timeout_seconds, output=self.output, stderr=self.errors)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def end(self) -> None:
        """With what it has started, where it has not ended by itself."""
        if self.poll() is None:
            _kill(self.pid)
            self.wait()


class _Timer:
    """Kills a process and all that it has started when its time is over."""

    def __init__(self, pid: int, seconds: float) -> None:
        self.is_over = False
        self._pid = pid
        self._timer = threading.Timer(seconds, self._kill)

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def _kill(self) -> None:
        self.is_over = True
        _kill(self._pid)


def _kill(pid: int) -> None:
    """A process and all that it has started."""
    import psutil

    with suppress(psutil.Error):
        process = psutil.Process(pid)
        for one in [*process.children(recursive=True), process]:
            one.kill()


@cache
def _server() -> subprocess.Popen[bytes]:
    server = subprocess.Popen(  # without buffers, so that it can be seen whether a line waits
        [sys.executable, "-m", "tests.warm"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    atexit.register(server.kill)
    return server


# what the server does


def _serve() -> None:
    import importlib

    import torch

    for name in IMPORTED:
        with suppress(ImportError):
            importlib.import_module(name)
    import run  # noqa: F401  # the command line

    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        told = json.loads(line)
        output, errors = told.pop("output"), told.pop("errors")
        asked = Asked(**told)
        pid = os.fork()
        if not pid:
            _leave(partial(_be_command, asked, output, errors if asked.words_apart else output))
        print(pid, flush=True)
        print(Forked(pid).wait(), flush=True)


def _be_command(asked: Asked, output: str, errors: str) -> int:
    """The process that a shell would start, which prints into files."""
    for target, path in ((1, output), (2, errors)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), target)
    typed, typing = os.pipe()
    os.write(typing, asked.typed.encode())
    os.close(typing)
    os.dup2(typed, 0)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  # for as long as this process lives
    os.setsid()
    os.chdir(asked.folder)
    os.environ.clear()
    os.environ.update(asked.environment)
    sys.path[:0] = [entry for entry in asked.environment.get("PYTHONPATH", "").split(os.pathsep) if entry]
    if asked.count == 1:
        return _run(asked.arguments)
    started = Started()
    for _ in range(asked.count):
        started.add(asked)
    from core.ranks.launch import Launcher
    from core.ranks.one_machine import environment, own_variables

    class WarmLauncher(Launcher):
        """One whose ranks are there already."""

        def _start(self, rank: int, port: int) -> Any:
            return started.tell(rank, {**own_variables(), **environment(rank, self.count, port)})

    return WarmLauncher(asked.count, [sys.executable, *asked.arguments]).run()


def _be_rank(asked: Asked, told: int) -> int:
    with os.fdopen(told) as pipe:
        variables = pipe.readline()  # and not to the end of the pipe, which later ranks hold open too
    if not variables:  # the launcher has gone before
        return 1
    os.environ.clear()
    os.environ.update(json.loads(variables))
    if os.environ["RANK"] != "0":
        os.setpgid(0, 0)
    return _run(asked.arguments)


def _run(arguments: Sequence[str]) -> int:
    import run

    util.spawnv_passfds = _start_beside  # type: ignore[attr-defined]  # what multiprocessing starts its servers with
    sys.argv = [str(ROOT / "run.py"), *arguments]
    return run.main()


def _start_beside(path: bytes, words: Sequence[str], kept: Sequence[int]) -> int:
    """A server of multiprocessing: the one that loader workers come from is forked, since it too would import torch."""
    if not words[-1].startswith("from multiprocessing.forkserver import main"):
        return START_COLD(path, words, kept)
    pid = os.fork()
    if not pid:
        _leave(partial(_be_fork_server, words[-1], kept))
    return pid


def _be_fork_server(code: str, kept: Sequence[int]) -> int:
    """With what a program that was just started has: no files of others, and signals that do what they do by default."""
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for lower, upper in pairwise(sorted({2, *kept, os.sysconf("SC_OPEN_MAX")})):
        os.closerange(lower + 1, upper)
    exec(code, {})  # as `python -c` does
    return 0


def _leave(work: Callable[[], int]) -> None:
    """End this process with what the work returns."""
    code = 1
    try:
        code = work()
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(BaseException):
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
