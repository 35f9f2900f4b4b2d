"""Harm that is done to a run from within its own process. Each function is called in the forked child, before the run.

The product is not asked to help: its calls into the filesystem, its clock and its functions are replaced where they are
looked up.
"""

import ctypes
import errno
import importlib
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CALLS = ("mkdir", "open", "write", "fsync", "rename", "replace", "unlink", "rmdir")
"""Of os; those that change a folder or promise that a change lasts. Opening counts when it is for writing."""
SAVE_FILE = "save_file"
"""Of safetensors, which writes by itself."""
CLONE_NEWNS = 0x00020000


@dataclass(frozen=True)
class Call:
    """One call into the filesystem, about to be made."""

    number: int
    """From 1."""
    name: str
    path: str
    half: Callable[[], object]
    """Does half of what the call would do, where it has halves."""


@dataclass
class FolderCalls:
    """Stands between this process and its calls under one folder."""

    folder: Path
    meet: Callable[[Call], object]
    """Told of each call; what it raises is what the caller gets instead."""
    names: tuple[str, ...] = (*CALLS, SAVE_FILE)
    _real: dict[str, Callable[..., Any]] = field(default_factory=dict)
    _open: dict[int, str] = field(default_factory=dict)
    _count: int = 0
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def begin(self) -> None:
        """Replace the functions, for the rest of this process."""
        from safetensors import torch as safetensors_torch

        self._real["close"], os.close = os.close, self._close
        for name in CALLS:
            self._real[name] = getattr(os, name)
            setattr(os, name, self._replacement(name))
        self._real[SAVE_FILE] = safetensors_torch.save_file
        safetensors_torch.save_file = self._save_file

    def _replacement(self, name: str) -> Callable[..., Any]:
        real = self._real[name]

        def call(target: Any, *arguments: Any, **options: Any) -> Any:
            path = self._path(target, options.get("dir_fd"))
            reads = name == "open" and not arguments[0] & (os.O_WRONLY | os.O_RDWR)
            if path is not None and not reads:
                self._tell(name, path, lambda: self._halve(name, target, arguments))
            result = real(target, *arguments, **options)
            if name == "open" and path is not None:
                self._open[result] = path
            return result

        return call

    def _halve(self, name: str, target: Any, arguments: tuple[Any, ...]) -> None:
        if name == "write":
            self._real["write"](target, arguments[0][: len(arguments[0]) // 2])

    def _save_file(self, tensors: Any, filename: Any, *arguments: Any, **options: Any) -> None:
        from safetensors.torch import save

        def half() -> None:
            data = save(tensors)
            Path(filename).write_bytes(data[: len(data) // 2])

        if self._path(filename, None) is not None:
            self._tell(SAVE_FILE, str(filename), half)
        self._real[SAVE_FILE](tensors, filename, *arguments, **options)

    def _close(self, descriptor: int) -> None:
        self._open.pop(descriptor, None)
        self._real["close"](descriptor)

    def _tell(self, name: str, path: str, half: Callable[[], object]) -> None:
        if name not in self.names:
            return
        with self._lock:
            self._count += 1
            self.meet(Call(self._count, name, path, half))

    def _path(self, target: Any, folder: int | None) -> str | None:
        """The full path of a path or open file, where it lies under the folder or is it."""
        if isinstance(target, int):
            return self._open.get(target)
        path = os.path.join(self._open.get(folder, ""), os.fsdecode(target)) if folder else os.fsdecode(target)
        path = os.path.abspath(path)
        return path if path == str(self.folder) or path.startswith(f"{self.folder}{os.sep}") else None


def kill_at_call(folder: Path, number: int) -> None:
    """SIGKILL this process before its n-th call under the folder; a write is made by half."""

    def meet(call: Call) -> None:
        if call.number == number:
            call.half()
            os.kill(os.getpid(), signal.SIGKILL)

    FolderCalls(folder, meet).begin()


def record_calls(folder: Path, target: Path) -> None:
    """A line `name path` in `target` for each call under the folder."""
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    write = os.write

    def meet(call: Call) -> None:
        write(descriptor, f"{call.name} {call.path}\n".encode())

    FolderCalls(folder, meet).begin()


def fail_calls(folder: Path, number: int, *, names: tuple[str, ...], times: int) -> None:
    """The first `times` calls of these names fail with this errno, of those on a checkpoint that is being built."""
    left = iter(range(times))

    def meet(call: Call) -> None:
        if ".tmp-" in call.path and next(left, None) is not None:
            raise OSError(number, os.strerror(number), call.path)

    FolderCalls(folder, meet, names).begin()


def on_call(place: str, action: Callable[[int], object]) -> None:
    """`action` is called with the number of the call, from 1, before each of `package.module:Class.method`."""
    module, _, path = place.partition(":")
    owner: Any = importlib.import_module(module)
    *parts, name = path.split(".")
    for part in parts:
        owner = getattr(owner, part)
    real, count = getattr(owner, name), iter(range(1, 1 << 30))

    def call(*arguments: Any, **options: Any) -> Any:
        action(next(count))
        return real(*arguments, **options)

    setattr(owner, name, call)


def signal_self(*numbers: int) -> None:
    """Send this process signals, as if from outside, and give it the time to take the first before the second."""
    for number in numbers:
        os.kill(os.getpid(), number)
        time.sleep(0.02)


def shift_clock(seconds: float) -> None:
    """The wall clock says another time from now on."""
    real = time.time
    time.time = lambda: real() + seconds
    time.time_ns = lambda: int((real() + seconds) * 1e9)


def stop_clock() -> None:
    """The wall clock stands still."""
    now = time.time()
    time.time, time.time_ns = lambda: now, lambda: int(now * 1e9)


def shuffle_folders(order: random.Random) -> None:
    """Folders list what is in them in another order each time."""
    listdir, scandir = os.listdir, os.scandir

    @contextmanager
    def scan(*arguments: Any) -> Generator[Iterator["os.DirEntry[str]"], None, None]:
        with scandir(*arguments) as entries:
            found = list(entries)
        order.shuffle(found)
        yield iter(found)

    def names(*arguments: Any) -> list[Any]:
        found: list[Any] = listdir(*arguments)
        order.shuffle(found)
        return found

    os.listdir, os.scandir = names, scan


def set_constants(module: str, values: Mapping[str, object]) -> None:
    """Other values for constants of a module."""
    for name, value in values.items():
        assert hasattr(importlib.import_module(module), name), f"{module} has no {name}"
        setattr(importlib.import_module(module), name, value)


def small_disk(folder: Path, megabytes: float) -> bool:
    """A disk of this size at the folder, for this process and its children alone; False where that is not permitted."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS):
        return False
    folder.mkdir(parents=True, exist_ok=True)
    options = ("-t", "tmpfs", "-o", f"size={int(megabytes * 1024)}k", "tmpfs", str(folder))
    for words in (("--make-rprivate", "/"), options):
        if subprocess.run(["mount", *words], capture_output=True, check=False).returncode:
            return False
    return True


def fill(folder: Path, *, leave: int = 0) -> Path:
    """A file that takes all space of the folder's disk but `leave` bytes."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as stream:
        try:
            while True:
                stream.write(b"\0" * 65536)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        stream.truncate(max(0, stream.tell() - leave))
    return ballast


@dataclass
class SmallDisk:
    """A disk of its own for a folder; where none may be mounted, calls under it are answered as a disk in trouble would."""

    folder: Path
    megabytes: float = 4.0
    is_real: bool = False

    def mount(self) -> "SmallDisk":
        """For this process and its children."""
        self.is_real = small_disk(self.folder, self.megabytes)
        self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def begin(self) -> None:
        """Called in the run's process."""
        if self.is_real:
            return
        usage = shutil.disk_usage

        def meet(call: Call) -> None:
            number, _ = self._trouble()
            if number == errno.EROFS or (number and call.name in ("write", SAVE_FILE)):
                raise OSError(number, os.strerror(number), call.path)

        FolderCalls(self.folder, meet).begin()
        shutil.disk_usage = lambda path: usage(path)._replace(free=self._trouble()[1])

    def fill(self, *, leave: int = 0) -> None:
        """Leave so many bytes free."""
        if self.is_real:
            fill(self.folder, leave=leave)
        else:
            self._place.write_text(f"{errno.ENOSPC} {leave}")

    def empty(self) -> None:
        (self.folder / "ballast" if self.is_real else self._place).unlink()

    def forbid_writing(self) -> None:
        if self.is_real:
            subprocess.run(["mount", "-o", "remount,ro", str(self.folder)], check=True)
        else:
            self._place.write_text(f"{errno.EROFS} 0")

    def allow_writing(self) -> None:
        if self.is_real:
            subprocess.run(["mount", "-o", "remount,rw", str(self.folder)], check=True)
        else:
            self._place.unlink()

    @property
    def _place(self) -> Path:
        """Where it is noted, for every process, what an imagined disk suffers from."""
        return self.folder.with_name(f"{self.folder.name}.trouble")

    def _trouble(self) -> tuple[int, int]:
        """The errno, 0 for none, and the bytes that are free."""
        try:
            number, leave = self._place.read_text().split()
        except (FileNotFoundError, ValueError):
            return 0, 1 << 40
        return int(number), int(leave)
