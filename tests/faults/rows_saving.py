"""Rows F09 and F20: saves that fail, are late or take long."""

import errno
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from .bench import Bench, digest
from .injectors import SAVE_FILE, SmallDisk, fail_calls, on_call
from .on_disk import leftovers, taken_steps, tree, whole_steps
from .rows import row
from .rows_disk import assert_told, shorter_waits
from .rows_process import begun, go_on
from .rows_signals import SHORT


@row("F09", "the folder becomes read-only or vanishes, and errors of input and output", cut=4, short=14, long=14)
def bad_folder(bench: Bench) -> None:
    """Saves are tried again until they work or the run is over; then exit 7; never a traceback."""
    bench.reference(*SHORT)
    trials: dict[str, Callable[[Bench], None]] = {
        "read-only for a while": read_only,
        "the checkpoints vanish": partial(vanishes, "checkpoints"),
        "what was written reads back otherwise": lies,
        "fsync fails twice": partial(fails_with, ("fsync",), 2),
        "writing fails for good": partial(fails_with, (SAVE_FILE,), 1 << 30),
        "the run's folder vanishes": partial(vanishes, "."),
    }
    for name in ("open", "write", "fsync", "rename", "mkdir", SAVE_FILE):
        trials.setdefault(f"{name} fails once", partial(fails_with, (name,), 1))
    for name in ("fsync", "rename", "mkdir"):
        trials[f"{name} fails for good"] = partial(fails_with, (name,), 1 << 30)
    bench.spread(dict(list(trials.items())[: bench.count]))


def read_only(bench: Bench) -> None:
    work = bench.workspace(*SHORT)
    disk = SmallDisk(work.run / "checkpoints").mount()

    def inject() -> None:
        shorter_waits()
        disk.begin()
        on_call(
            "core.checkpoint.writer:Writer.hand_over", lambda number: disk.forbid_writing() if number == 3 else None
        )
        on_call("core.run.artefacts:why_not_saved", lambda number: disk.allow_writing() if number == 2 else None)

    ended = bench.train(work, inject=inject)
    assert ended.code == 0, ended.output
    assert_told(ended, f"checkpoint not saved: Read-only file system in {work.run / 'checkpoints'}")
    assert digest(work) == bench.reference(*SHORT)


def vanishes(part: str, bench: Bench) -> None:
    work = bench.workspace(*SHORT)

    def vanish(save: int) -> None:
        if save == 3:
            shutil.rmtree(work.run / part)

    def inject() -> None:
        shorter_waits()
        on_call("core.checkpoint.writer:Writer.hand_over", vanish)

    ended = bench.train(work, inject=inject)
    assert ended.code == 0, ended.output
    assert "Traceback" not in ended.output, ended.output
    assert digest(work) == bench.reference(*SHORT)


def lies(bench: Bench) -> None:
    """A byte is another on the disk than the one that was written; it is noticed before the checkpoint before goes."""
    work = bench.workspace(*SHORT, "checkpoint.keep=1")

    def spoil(number: int) -> None:
        if number == 3:
            for building in (work.run / "checkpoints").glob(".tmp-*"):
                data = bytearray((building / "weights.safetensors").read_bytes())
                data[-1] ^= 1
                (building / "weights.safetensors").write_bytes(data)

    def inject() -> None:
        shorter_waits()
        on_call("core.checkpoint.commit:commit", spoil)

    ended = bench.train(work, inject=inject)
    assert ended.code == 0, ended.output
    assert_told(ended, "checkpoint not saved: ")
    assert digest(work) == bench.reference(*SHORT)


def fails_with(names: tuple[str, ...], times: int, bench: Bench) -> None:
    """These calls of saving raise EIO so many times, from the second step on."""
    work = begun(bench, SHORT, steps=1)
    before = tree(work.checkpoints[-1])

    def fail(save: int) -> None:
        if save == 1:
            fail_calls(work.run / "checkpoints", errno.EIO, names=names, times=times)

    def inject() -> None:
        shorter_waits()
        on_call("core.checkpoint.writer:Writer.hand_over", fail)

    ended = bench.train(work, inject=inject)
    assert ended.code == (7 if times > 100 else 0), ended.output
    assert_told(ended, f"checkpoint not saved: Input/output error in {work.run / 'checkpoints'}")
    if times > 100:
        assert tree(work.checkpoints[-1]) == before
        assert go_on(work, bench).code == 0
    assert digest(work) == bench.reference(*SHORT)
    assert not leftovers(work), leftovers(work)


@row("F20", "the thread that saves fails, or is slow", cut=3, short=8, long=13)
def saving_thread(bench: Bench) -> None:
    """What fails in the thread ends the run at the next boundary; a slow one is waited for, and is the only one."""
    bench.reference(*SHORT)
    trials: dict[str, Callable[[Bench], None]] = {
        "slow": partial(slow_saves, 0.3),
        "fails at save 2": partial(fails, 2),
        "late, and killed": late_and_killed,
        "the last save fails": partial(fails, 5),
    }
    trials |= {f"fails at save {number}": partial(fails, number) for number in (1, 3, 4)}
    trials |= {f"slow by {seconds} s": partial(slow_saves, seconds) for seconds in (0.05, 0.1, 1.0, 2.0, 3.0, 10.0)}
    bench.spread(dict(list(trials.items())[: bench.count]))


def fails(number: int, bench: Bench) -> None:
    """At the save of this step; `step` and save agree, since every step saves."""
    work = bench.workspace(*SHORT)

    def fail(count: int) -> None:
        if count == number:
            raise RuntimeError("the disk caught fire")

    ended = bench.train(work, inject=partial(on_call, "core.checkpoint.folder:CheckpointFolder.save", fail))
    assert ended.code not in (0, 130, 143), ended.output
    assert "the disk caught fire" in ended.output, ended.output
    assert taken_steps(work) <= number + 1, f"step {taken_steps(work)} was taken after save {number} had failed"
    assert len(whole_steps(work)) == len(work.checkpoints)
    said = go_on(work, bench)
    assert said.code == 0, said.output
    assert digest(work) == bench.reference(*SHORT)


def slow_saves(seconds: float, bench: Bench) -> None:
    work = bench.workspace(*SHORT)
    ended = bench.train(work, inject=partial(save_slowly, seconds, work.path / "saves"), timeout=120)
    assert ended.code == 0, ended.output
    words = (work.path / "saves").read_text().split()
    assert words == ["begins", "ends"] * 5, words
    assert ended.seconds >= 5 * seconds, "saves were not waited for"
    assert digest(work) == bench.reference(*SHORT)


def save_slowly(seconds: float, record: Path) -> None:
    """Each save waits before it writes, and says in `record` when it begins and ends."""
    from core.checkpoint.folder import CheckpointFolder

    save = CheckpointFolder.save

    def note(word: str) -> None:
        with record.open("a") as stream:
            stream.write(f"{word}\n")

    def slowly(*arguments: Any, **options: Any) -> Path:
        note("begins")
        time.sleep(seconds)
        path = save(*arguments, **options)
        note("ends")
        return path

    CheckpointFolder.save = slowly  # type: ignore[method-assign]  # in this process alone


def late_and_killed(bench: Bench) -> None:
    """What is written after the next step is what stood when it was taken: a run goes on from it with the same bits."""
    work = bench.workspace(*SHORT)

    def inject() -> None:
        next_is_taken = threading.Semaphore(0)
        on_call("core.run.artefacts:Artefacts.save", lambda number: next_is_taken.release() if number > 1 else None)
        on_call("core.checkpoint.folder:CheckpointFolder.save", lambda number: next_is_taken.acquire(timeout=20.0))
        on_call(
            "core.step.closed:Step.take", lambda number: os.kill(os.getpid(), signal.SIGKILL) if number == 4 else None
        )

    assert bench.train(work, inject=inject).killed
    assert whole_steps(work), "nothing was saved"
    said = go_on(work, bench)
    assert said.code == 0, said.output
    assert digest(work) == bench.reference(*SHORT)
