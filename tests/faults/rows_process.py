"""Rows F01 to F03: a process that is killed, anywhere."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from tests.small_runs import ROOT

from .bench import Bench, Ended, Workspace, digest, kept
from .injectors import kill_at_call, on_call, record_calls
from .on_disk import is_saving, leftovers, steps_again, taken_steps, tree, wait_until, whole_steps
from .rows import row

LEAN = ("model.train=['unet']", "train.batch_size=2", "checkpoint.every_steps=1")
"""A run that saves at every step, and whose steps and saves are cheap."""
KILLS_A_CHAIN = 20


@row("F01", "SIGKILL at random times", cut=6, short=200, long=2000)
def killed_at_random(bench: Bench) -> None:
    """Killed again and again, a run goes on from its newest checkpoint, says what was lost, and ends with the same bits."""
    lengths = [min(KILLS_A_CHAIN, bench.count - begun) for begun in range(0, bench.count, KILLS_A_CHAIN)]
    steps = f"train.steps={2 * lengths[0]}"
    bench.reference(*LEAN, steps)
    bench.spread({f"chain {number}": partial(chain, kills, steps) for number, kills in enumerate(lengths)})
    if bench.size == "cut":
        return
    with bench.trial("many kills were inside a write"):
        found = f"{bench.notes['inside a write']} of {bench.notes['kills']} kills were"
        assert bench.notes["inside a write"] >= 0.15 * bench.count, found


def chain(kills: int, steps: str, bench: Bench) -> None:
    """Kill one run so many times, then let it end."""
    work = bench.workspace(*LEAN, steps)
    for number in range(kills):
        with bench.trial(f"kill {number + 1}"):
            kill_somewhere(work, number, bench)
    said = go_on(work, bench)
    assert said.code == 0, said.output
    assert_ends_as_unbroken(work, bench, *LEAN, steps)


def kill_somewhere(work: Workspace, number: int, bench: Bench) -> None:
    """In turn: anywhere, after the first step, anywhere, and right after a save has begun."""
    whole, taken, again = whole_steps(work), taken_steps(work), steps_again(work)
    child = bench.begin(work)
    if number % 2 == 0:
        time.sleep(bench.random.uniform(0.01, 0.6))
    elif wait_until(again if number % 4 == 1 else partial(is_saving, work), child):
        time.sleep(bench.random.uniform(0.01, 0.35) if number % 4 == 1 else bench.random.uniform(0.0, 0.02))
    child.send(signal.SIGKILL)
    ended = child.wait()
    assert ended.killed or ended.code == 0, ended.output
    bench.notes["kills"] += ended.killed
    bench.notes["inside a write"] += ended.killed and is_saving(work)
    assert_says_what_was_lost(ended, whole, taken)
    assert whole_steps(work)[-1:] >= whole[-1:], "a whole checkpoint is gone"


def go_on(work: Workspace, bench: Bench, *overrides: str) -> Ended:
    """Resume to the end, and look whether it says from where."""
    whole, taken = whole_steps(work), taken_steps(work)
    ended = bench.train(work, *overrides)
    if "is finished: step" not in ended.output:
        assert_says_what_was_lost(ended, whole, taken)
    return ended


def assert_ends_as_unbroken(work: Workspace, bench: Bench, *settings: str) -> None:
    """The same bits as a run that nobody disturbed, and a journal that has every step."""
    assert digest(work) == bench.reference(*settings), "other bits than those of the unbroken run"
    state = json.loads((work.checkpoints[-1] / "state.json").read_text())
    assert state["plugins"]["Journal"]["steps"] == state["position"]["step"], "the journal lacks steps"
    assert not leftovers(work), leftovers(work)


def assert_says_what_was_lost(ended: Ended, whole: list[int], taken: int) -> None:
    """The log's line about where it began, if it came so far."""
    if "plan:" not in ended.output:
        return
    if whole:
        expected = f"resumed step={whole[-1]} lost={max(taken - whole[-1], 0)}"
    else:
        expected = f"starting at step 0 lost={taken}" if taken else ""
    assert expected in ended.output, f"{expected!r} is not in:\n{ended.output}"


@row("F02", "SIGKILL at each filesystem call of a save", cut=2, short=100, long=100)
def killed_at_each_call(bench: Bench) -> None:
    """Killed before or amid any call of a save that replaces the checkpoint before it, a run ends with the same bits."""
    settings = (*LEAN, "checkpoint.keep=1", "train.steps=4")
    bench.reference(*settings)
    work, record = begun(bench, settings), bench.folder / "calls"
    bench.train(work, "train.steps=3", inject=partial(record_calls, work.run / "checkpoints", record))
    calls = record.read_text().splitlines()
    with bench.trial("the order of the calls"):
        assert_safe_order(calls, work.run / "checkpoints")
    numbers = list(range(1, len(calls) + 1))
    if bench.size == "cut":
        numbers = [next(number for number in numbers if calls[number - 1].startswith(name)) for name in TELLING]
    bench.spread({f"call {n}, {calls[n - 1]}": partial(kill_at_a_call, n, settings) for n in numbers})
    if bench.size != "cut":
        bench.apart("the order of the calls, by strace", partial(order_by_strace, settings))


TELLING = ("rename", "unlink")


def begun(bench: Bench, settings: tuple[str, ...], steps: int = 2) -> Workspace:
    """A run that has taken these steps and has a checkpoint of the last; a copy of one that is made once."""
    work, stored = bench.workspace(*settings), kept("begun", settings, steps)
    if not stored.exists():
        ended = bench.train(work, f"train.steps={steps}")
        assert ended.code == 0, ended.output
        made = bench.folder / stored.name
        shutil.copytree(work.run, made)
        with suppress(OSError):  # another lane has made it meanwhile
            made.rename(stored)
    else:
        shutil.copytree(stored, work.run)
    return work


def kill_at_a_call(number: int, settings: tuple[str, ...], bench: Bench) -> None:
    work = begun(bench, settings)
    ended = bench.train(work, inject=partial(kill_at_call, work.run / "checkpoints", number))
    assert ended.killed, ended.output
    assert whole_steps(work), "no whole checkpoint is left"
    said = go_on(work, bench)
    assert said.code == 0, said.output
    assert_ends_as_unbroken(work, bench, *settings)
    assert [path.name for path in work.checkpoints] == ["step-00000004"]


def assert_safe_order(calls: list[str], folder: Path) -> None:
    """Each file flushed, the manifest last, the folder flushed, renamed, its parent flushed; only then the old one goes."""
    named = [line.split(" ") for line in calls]
    rename = next(
        place for place, (name, path, *_) in enumerate(named) if name == "rename" and is_building(path, folder)
    )
    building = named[rename][1]
    written: set[str] = set()
    for name, path, *target in named[:rename]:
        if name in ("save_file", "write") and path.startswith(building):
            written.add(path)
        elif name == "rename" and path.startswith(building):  # safetensors writes under a name of its own
            written = written - {path} | {target[0]}
    flushed = [path for name, path, *_ in named[:rename] if name == "fsync"]
    assert len(written) >= 6, written
    assert written <= set(flushed), f"not flushed: {written - set(flushed)}"
    assert flushed[-2:] == [f"{building}/manifest.json", building], flushed
    parents = [place for place, (name, path, *_) in enumerate(named) if name == "fsync" and path == str(folder)]
    assert any(place > rename for place in parents), "the folder of checkpoints is not flushed after the rename"
    gone = [place for place, (name, path, *_) in enumerate(named) if name == "unlink" and "/step-" in path]
    assert gone, "no older checkpoint went"
    assert gone[0] > next(place for place in parents if place > rename), "an older one goes before the new one is safe"
    assert named[gone[0]][1].endswith("manifest.json"), named[gone[0]]


def is_building(path: str, folder: Path) -> bool:
    return Path(path).parent == folder and Path(path).name.startswith(".tmp-")


def order_by_strace(settings: tuple[str, ...], bench: Bench) -> None:
    """The same, as the kernel is asked by a `python run.py train` of its own."""
    assert shutil.which("strace"), "strace is not installed here; this is not shown"
    work, record = begun(bench, settings), bench.folder / "strace"
    traced = "trace=write,fsync,rename,renameat,renameat2,unlink,unlinkat"
    done = subprocess.run(
        ["strace", "-f", "-y", "-s", "0", "--seccomp-bpf", "-o", str(record), "-e", traced,
         sys.executable, str(ROOT / "run.py"), "train", str(work.config), "--set", "train.steps=3"],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert_safe_order(list(calls_of(record.read_text(errors="replace"))), work.run / "checkpoints")


def calls_of(trace: str) -> Iterator[str]:
    """`name path` of what strace -y wrote, whose descriptors have their path: `123 fsync(5</a/b>) = 0`."""
    for line in trace.splitlines():
        name, _, rest = line.partition(" ")[2].strip().partition("(")
        if name in ("write", "fsync"):
            yield f"{name} {rest.partition('<')[2].partition('>')[0]}"
        elif name.startswith(("rename", "unlink")):
            yield " ".join([name[:6], *re.findall(r'"([^"]*)"', rest)])


LOADING = (
    "core.run_folder.folder:find_run",
    "core.run.session:Session._start",
    "core.run.assembly:Assembly.build_trainer",
    "core.checkpoint.contents:Checkpoint.tensors",
    "core.resuming.run_state:RunState.apply",
    "core.resuming.run_state:RunState._load_optimizer",
    "core.resuming.plugin_states:PluginStates.give_back",
    "core.run.trainer:Trainer.train",
)
"""What a run goes through before its first step."""


@row("F03", "SIGKILL during resume, twice", cut=2, short=50, long=500)
def killed_while_resuming(bench: Bench) -> None:
    """Until its first step a resumed run changes no byte of its checkpoints, also beside a damaged one."""
    bench.reference(*LEAN, "train.steps=5")
    bench.spread({f"resume {number}": partial(kill_two_resumes, number) for number in range(bench.count)})


def kill_two_resumes(number: int, bench: Bench) -> None:
    work = begun(bench, (*LEAN, "train.steps=5"), steps=3)
    if number % 2:
        with (work.checkpoints[-1] / "weights.safetensors").open("r+b") as stream:
            stream.truncate(1000)
    before = tree(work.run / "checkpoints")
    for _ in range(2):
        if number % 4 < 2:
            place = LOADING[-1 - number // 4 % len(LOADING)]
            ended = bench.train(work, inject=partial(on_call, place, lambda count: kill_self()))
        else:
            child = bench.begin(work, inject=partial(on_call, LOADING[-1], lambda count: time.sleep(60)))
            time.sleep(bench.random.uniform(0.02, 0.6))
            child.send(signal.SIGKILL)
            ended = child.wait()
        assert ended.killed, ended.output
        assert tree(work.run / "checkpoints") == before, "a killed resume has changed the checkpoints"
    if number % 8 == 1:
        said = go_on(work, bench)
        assert said.code == 0, said.output
        assert_ends_as_unbroken(work, bench, *LEAN, "train.steps=5")


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
