"""Rows F06 and F08: a disk that is full, or too small from the beginning."""

import resource
import shutil
import signal
from collections.abc import Callable
from functools import partial

from .bench import Bench, Ended, Workspace, digest
from .injectors import SmallDisk, on_call, set_constants, signal_self
from .on_disk import leftovers, taken_steps, whole_steps
from .rows import row
from .rows_process import begun, go_on
from .rows_signals import SHORT

NEEDS = "checkpoint not saved: needs "
POLICY = "checkpoint.on_failure='{}'"


@row("F06", "the disk is full during a save", cut=3, short=10, long=16)
def full_disk(bench: Bench) -> None:
    """The checkpoint before stays as it is; then by checkpoint.on_failure training goes on, waits or ends with 7."""
    bench.reference(*SHORT)
    trials: dict[str, Callable[[Bench], None]] = {
        "retry": partial(full_for_a_while, "retry", 0),
        "stop": stops_when_full,
        "pause": partial(full_for_a_while, "pause", 0),
        "retry, full to the end": full_to_the_end,
        "pause, and SIGTERM": stops_while_waiting,
        "files limited in size": limited_in_size,
    }
    for room in range(20_000, 220_000, 20_000):
        trials[f"retry, {room} bytes free"] = partial(full_for_a_while, "retry", room)
    bench.spread(dict(list(trials.items())[: bench.count]))


def shorter_waits() -> None:
    """As if the minutes between attempts were over in a moment."""
    set_constants("core.checkpoint.writer", {"FIRST_WAIT_SECONDS": 0.02, "LONGEST_WAIT_SECONDS": 0.05})
    set_constants("core.run.artefacts", {"LAST_WAIT_SECONDS": 0.05})


def at_save(actions: dict[int, Callable[[], object]]) -> None:
    """Do something right before the n-th checkpoint is written, when those before are whole."""
    on_call("core.checkpoint.writer:Writer.hand_over", lambda number: actions.get(number, lambda: None)())


def on_small_disk(work: Workspace) -> SmallDisk:
    """The folder of runs on a disk of its own."""
    return SmallDisk(work.run.parent).mount()


def full_for_a_while(policy: str, room: int, bench: Bench) -> None:
    """Full from the second save to the fourth; with pause, until somebody makes room."""
    work = bench.workspace(*SHORT, POLICY.format(policy))
    disk, seen = on_small_disk(work), work.path / "seen"

    def inject() -> None:
        shorter_waits()
        disk.begin()
        at_save({2: lambda: disk.fill(leave=room)})
        on_call("core.run.artefacts:why_not_saved", look)

    def look(number: int) -> None:
        """Called for each failure: the checkpoint before must be as it was."""
        with seen.open("a") as stream:
            stream.write(f"{taken_steps(work)} {whole_steps(work)}\n")
        if number == 3:
            disk.empty()

    ended = bench.train(work, inject=inject)
    assert ended.code == 0, ended.output
    assert_told(ended, f"{NEEDS}0.", f" MB free in {work.run / 'checkpoints'}")
    lines = seen.read_text().splitlines()
    assert len(lines) >= 3, lines
    assert all(line.endswith("[1]") for line in lines), lines
    if policy == "pause":
        assert {line.split()[0] for line in lines} <= {"2", "3"}, f"training went on: {lines}"
    assert digest(work) == bench.reference(*SHORT)
    assert not leftovers(work), leftovers(work)


def assert_told(ended: Ended, *words: str) -> None:
    """In a line about a checkpoint that was not saved, and without a traceback."""
    told = [line for line in ended.output.splitlines() if "checkpoint not saved" in line]
    assert told, ended.output
    assert all(word in told[0] for word in words), told[0]
    assert "Traceback" not in ended.output, ended.output


def stops_when_full(bench: Bench) -> None:
    work = bench.workspace(*SHORT, POLICY.format("stop"))
    disk = on_small_disk(work)

    def inject() -> None:
        disk.begin()
        at_save({3: disk.fill})

    ended = bench.train(work, inject=inject)
    assert ended.code == 7, ended.output
    assert_told(ended, NEEDS)
    assert whole_steps(work) == [1, 2], whole_steps(work)
    disk.empty()
    said = go_on(work, bench)
    assert said.code == 0, said.output
    assert digest(work) == bench.reference(*SHORT)


def full_to_the_end(bench: Bench) -> None:
    work = bench.workspace(*SHORT)
    disk = on_small_disk(work)

    def inject() -> None:
        shorter_waits()
        disk.begin()
        at_save({3: disk.fill})

    ended = bench.train(work, inject=inject)
    assert ended.code == 7, ended.output
    assert_told(ended, NEEDS)
    assert taken_steps(work) == 5, "training did not go on"
    assert whole_steps(work) == [1, 2], whole_steps(work)
    disk.empty()
    assert go_on(work, bench).code == 0
    assert digest(work) == bench.reference(*SHORT)


def stops_while_waiting(bench: Bench) -> None:
    work = bench.workspace(*SHORT, POLICY.format("pause"))
    disk = on_small_disk(work)

    def inject() -> None:
        disk.begin()
        at_save({2: disk.fill})
        on_call("core.run.artefacts:why_not_saved", lambda number: signal_self(signal.SIGTERM))

    ended = bench.train(work, inject=inject)
    assert ended.code in (7, 143), ended.output
    assert_told(ended, NEEDS)
    assert ended.seconds < 30, ended.seconds
    assert whole_steps(work) == [1], whole_steps(work)
    disk.empty()
    assert go_on(work, bench).code == 0
    assert digest(work) == bench.reference(*SHORT)


def limited_in_size(bench: Bench) -> None:
    """No file may be longer than 20 kB, as a quota would have it."""
    work = bench.workspace(*SHORT, POLICY.format("stop"))

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))

    ended = bench.train(work, inject=lambda: at_save({2: limit}))
    assert ended.code == 7, ended.output
    assert_told(ended, NEEDS)
    assert whole_steps(work) == [1], whole_steps(work)
    assert go_on(work, bench).code == 0
    assert digest(work) == bench.reference(*SHORT)


@row("F08", "the disk is too small at the start", cut=1, short=4, long=4)
def too_small(bench: Bench) -> None:
    """Refused before the first step, with what a checkpoint needs and what is free; exit 7."""
    trials = {f"{kilobytes} kB": partial(refuse_disk, kilobytes, 0) for kilobytes in (64, 16)}
    trials |= {f"{kilobytes} kB, to go on": partial(refuse_disk, kilobytes, 2) for kilobytes in (64, 16)}
    bench.spread(dict(list(trials.items())[: bench.count]))


def refuse_disk(kilobytes: int, steps: int, bench: Bench) -> None:
    """`kilobytes` are free on the disk of the checkpoints; `steps` were taken before."""
    work = begun(bench, SHORT, steps) if steps else bench.workspace(*SHORT)
    folder = work.run / "checkpoints"
    kept = shutil.copytree(folder, work.path / "kept") if steps else None
    disk = SmallDisk(folder).mount()
    if kept:
        shutil.copytree(kept, folder, dirs_exist_ok=True)
    disk.fill(leave=1024 * kilobytes)
    ended = bench.train(work, inject=disk.begin)
    assert ended.code == 7, ended.output
    assert "a checkpoint of this run needs about 0." in ended.output, ended.output
    assert str(folder) in ended.output, ended.output
    assert "Traceback" not in ended.output, ended.output
    assert taken_steps(work) == steps, "a step was taken"
    assert ended.seconds < 5, ended.seconds
