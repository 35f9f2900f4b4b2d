"""Saves of one checkpoint by several real processes, without a run around them: forked, so that many cost little.

`python -m tests.core.ranks.saving_together SCENARIO FOLDER` prints what became of each as a line of JSON.
"""

import errno
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint  # before the forks
import torch.distributed.checkpoint.filesystem as dcp_files
from safetensors import torch as safetensors_torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from core.checkpoint.contents import Checkpoint, Contents
from core.checkpoint.folder import CheckpointFolder
from core.checkpoint.parts import divide
from core.checkpoint.writer import Job, Writer
from core.ranks.sharding import divided_by_rows, local

WHOLE = {
    "weights": {
        "many": torch.arange(14 * 3, dtype=torch.float32).reshape(14, 3),
        "few": torch.arange(2 * 2 * 3 * 3, dtype=torch.float32).reshape(2, 2, 3, 3),
        "vector": torch.linspace(-1, 1, 7),
        "half": torch.linspace(-1, 1, 10).to(torch.bfloat16).reshape(5, 2),
        "one": torch.tensor([[5.0, 6.0]]),
    },
    "optimizer": {"optimizer/state/many/exp_avg": torch.linspace(0, 9, 42).reshape(14, 3)},
}
"""What is saved in parts, by file."""
PLAIN = {"weights": {"buffer": torch.arange(4)}, "optimizer": {"optimizer/state/many/step": torch.tensor(3.0)}}
"""What the main process saves beside it."""
END_SECONDS = 60.0
"""Within which whoever survives is to end."""


def save(
    rank: int, count: int, folder: Path, step: int, *,
    going: tuple[int, ...] = (), spoil: Callable[[dict[str, Tensor]], object] = lambda own: None,
) -> int:  # fmt: skip
    """One process's part in a save, as a run has it done; exits with 0, or 3 where it could not be."""
    group, mesh = _join(rank, count, folder)
    tensors = {
        file: {name: divided_by_rows(one, mesh) for name, one in named.items()} | PLAIN[file]
        for file, named in WHOLE.items()
    }
    spoil({name: local(one) for named in tensors.values() for name, one in named.items()})
    contents = Contents(tensors=tensors, jsons={"state": {"step": step}}, texts={"config.toml": "x = 1\n"})
    writer = Writer(CheckpointFolder(folder, 3))
    writer.hand_over(Job(step=step, reason="test", contents=divide(contents, group), going=going, arrived=lambda: None))
    written = writer.outcome(wait=True)
    assert written is not None
    if written.error is not None:
        say(rank=rank, error=type(written.error).__name__, said=str(written.error))
        return 3
    return 0


def read_in_parts(rank: int, count: int, folder: Path) -> int:
    """One process of as many as are wanted takes its rows back; exits with 0 where they are bit for bit what they were."""
    _, mesh = _join(rank, count, folder)
    checkpoint, _ = CheckpointFolder(folder, 3).newest()
    assert checkpoint is not None
    for file, named in WHOLE.items():
        divided = {name: divided_by_rows(one, mesh) for name, one in named.items()}
        found = checkpoint.tensors(file, lambda name, shape, divided=divided: divided.get(name))
        for name, one in divided.items():
            assert torch.equal(local(found[name]), local(one)), (file, name)
            assert (found[name].shape, found[name].dtype) == (named[name].shape, named[name].dtype)
        assert all(torch.equal(found[name], one) for name, one in PLAIN[file].items())
    return 0


def _join(rank: int, count: int, folder: Path) -> tuple[Any, DeviceMesh]:
    dist.init_process_group("gloo", init_method=f"file://{folder}.meeting", rank=rank, world_size=count)
    group = dist.new_group(backend="gloo")
    return group, DeviceMesh.from_group(group, "cpu")


def fork(count: int, folder: Path, work: Callable[[int], int]) -> list[int | None]:
    """The exit codes of so many processes that do this work, each given its rank; None of one that did not end."""
    Path(f"{folder}.meeting").unlink(missing_ok=True)
    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=lambda rank=rank: os._exit(work(rank))) for rank in range(count)]
    for one in ranks:
        one.start()
    for one in ranks:
        one.join(END_SECONDS)
    codes = [one.exitcode for one in ranks]
    for one in ranks:
        one.kill()
    return codes


class Counter:
    """Counts this process's calls into the filesystem under a folder; in the n-th, which is done by half, it is killed."""

    def __init__(self, folder: Path, number: int) -> None:
        self._folder, self._left = str(folder), number

    def begin(self) -> None:
        sys.addaudithook(self._audit)
        for name in ("write", "fsync"):
            setattr(os, name, self._counted(getattr(os, name)))
        real_save, real_stream = safetensors_torch.save_file, dcp_files.FileSystem.create_stream

        def save_file(tensors: Any, path: Any, *rest: Any, **named: Any) -> None:
            self.meet(str(path), lambda: Path(path).write_bytes(b"half"))
            real_save(tensors, path, *rest, **named)

        @contextmanager
        def create_stream(system: Any, path: Any, mode: str) -> Iterator[Any]:
            with real_stream(system, path, mode) as stream:
                yield Stream(stream, self, str(path))

        safetensors_torch.save_file, dcp_files.FileSystem.create_stream = save_file, create_stream

    def meet(self, path: str, half: Callable[[], object] = lambda: None) -> None:
        if path.startswith(f"{self._folder}/"):
            self._left -= 1
            if self._left == 0:
                half()
                os.kill(os.getpid(), signal.SIGKILL)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[2], int) and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return
        if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir") and isinstance(arguments[0], str | Path):
            self.meet(str(arguments[0]))

    def _counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(descriptor: int, *data: bytes) -> Any:
            path = os.readlink(f"/proc/self/fd/{descriptor}")
            self.meet(path, lambda: real(descriptor, *(one[: len(one) // 2] for one in data)))
            return real(descriptor, *data)

        return call


class Stream:
    """A file that counts what is written to it."""

    def __init__(self, stream: Any, counter: Counter, path: str) -> None:
        self._stream, self._counter, self._path = stream, counter, path

    def write(self, data: bytes) -> Any:
        self._counter.meet(self._path, lambda: (self._stream.write(data[: len(data) // 2]), self._stream.flush()))
        return self._stream.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


# scenarios


def kill(folder: Path, victim: int, every: int) -> None:
    """A rank is killed in its k-th call, for every so manieth k that there is; over a whole checkpoint of step 1."""
    whole = folder / "whole"
    assert fork(2, whole, lambda rank: save(rank, 2, whole, 1)) == [0, 0]
    number, killed = 1, True
    while killed:
        place = Path(tempfile.mkdtemp(prefix="kill-", dir=folder))
        shutil.copytree(whole, place, dirs_exist_ok=True)

        def work(rank: int, place: Path = place, number: int = number) -> int:
            if rank == victim:
                Counter(place, number).begin()
            return save(rank, 2, place, 2, going=(1,))

        codes = fork(2, place, work)
        newest, _ = CheckpointFolder(place, 3).newest()
        killed, at, is_same = codes[victim] == -signal.SIGKILL, newest and newest.step, is_whole(newest)
        again = fork(2, place, lambda rank, place=place: save(rank, 2, place, 3)) if number % 4 == 1 else [0, 0]
        say(
            number=number, killed=killed, other=codes[1 - victim], newest=at, same=is_same, again=again,
            left=[path.name for path in place.glob(".tmp-*")] if number % 4 == 1 else [],
        )  # fmt: skip
        shutil.rmtree(place)
        number += every


def is_whole(checkpoint: Checkpoint | None) -> bool:
    """Whether one process reads from it what was saved."""
    return checkpoint is not None and all(
        torch.equal(checkpoint.tensors(file)[name], one)
        for file in WHOLE
        for name, one in (WHOLE[file] | PLAIN[file]).items()
    )


def sizes(folder: Path) -> None:
    """Written by so many processes, and read by others, and by one that knows of none."""
    for writers, reading in ((2, (1, 5)), (3, (2,)), (5, (3,))):
        place = folder / f"by-{writers}"
        written = fork(writers, place, lambda rank, writers=writers, place=place: save(rank, writers, place, 1))
        checkpoint, _ = CheckpointFolder(place, 3).newest()
        read = {
            readers: fork(
                readers, place, lambda rank, readers=readers, place=place: read_in_parts(rank, readers, place)
            )
            for readers in reading
        }
        assert checkpoint is not None
        shapes = {file: {name: list(one.shape) for name, one in checkpoint.shapes(file).items()} for file in WHOLE}
        files = sorted(path.name for path in checkpoint.path.iterdir())
        say(written=written, read=read, same=is_whole(checkpoint), shapes=shapes, files=files)


def trouble(folder: Path) -> None:
    """What goes wrong on rank 1, between saves in which nothing does."""

    def spoil(own: dict[str, Tensor]) -> None:
        if dist.get_rank():
            own["many"][0, 0] = torch.nan

    def save_to_a_full_disk(rank: int) -> int:
        if rank == 1:
            refuse(errno.ENOSPC)
        return save(rank, 2, folder, 3)

    for work in (
        lambda rank: save(rank, 2, folder, 1),
        lambda rank: save(rank, 2, folder, 2, spoil=spoil),
        save_to_a_full_disk,
        lambda rank: save(rank, 2, folder, 1),  # which is there
        lambda rank: save(rank, 2, folder, 4),
    ):
        codes = fork(2, folder, work)
        say(codes=codes, left=sorted(path.name for path in folder.iterdir()))


def refuse(number: int) -> None:
    """From now on this process cannot write its part."""

    def create_stream(system: Any, path: Any, mode: str) -> Any:
        raise OSError(number, os.strerror(number), str(path))

    dcp_files.FileSystem.create_stream = create_stream  # type: ignore[method-assign]  # of this process


def say(**what: Any) -> None:
    """A line in one piece, since two processes share the pipe."""
    os.write(1, json.dumps(what).encode() + b"\n")


SCENARIOS = {
    "kill-0": lambda place: kill(place, 0, 3), "kill-1": lambda place: kill(place, 1, 1), "sizes": sizes,
    "trouble": trouble,
}  # fmt: skip

if __name__ == "__main__":
    torch.set_num_threads(1)
    SCENARIOS[sys.argv[1]](Path(sys.argv[2]))
