"""Rows F38 and F41: several processes that train one run, one of which ends, hangs, raises or has NaN."""

import json
import signal
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from math import ceil
from pathlib import Path

import psutil

from core.run_folder.lock import locked

from .bench import EMA, JOURNAL, Bench, Workspace, digest, kept
from .injectors import on_call
from .on_disk import is_whole, leftovers, whole_steps
from .plugins_for_processes import DEEDS, note_once
from .processes import Group, begin_ranks, train_ranks, wait_for_group
from .rows import row

LEAN = (
    "model.train=['unet']", "train.batch_size=2", "checkpoint.every_steps=2", "train.steps=8",
    "distributed.timeout_seconds=5",
)  # fmt: skip
PARTS = (
    "optimizer", "step", "plugins.Ema", "position.step", "position.epoch", "position.batches_done", "position.plan_digest",
    "position.accumulate", "position.images", "position.settings", "position.left_out",
)  # fmt: skip
"""What is compared: all but numbers for the log, of which an ended rank has taken its share along."""
SECONDS = 10.0
"""That it may take until no process is left, and for one that hangs too: distributed.timeout_seconds and five."""
FOREIGN = (
    "gloo",
    "Connection closed",
    "Connection reset",
    "ProcessGroup",
    "recvValue",
    "[W",
    "terminate called",
    "c10",
)
"""What torch says of it, each rank for itself."""
OF_RANKS, OF_MAIN = (*PARTS, "plugins.JournalOfAll"), (*PARTS, "plugins.Journal")
OF_ALL = '\n[[plugins]]\nuse = "tests.faults.plugins_for_processes.JournalOfAll"\n'
SPOILT = '\n[[plugins]]\nuse = "tests.faults.plugins_for_processes.Spoilt"\nrank = {rank}\nsince = {since}\n'
STEP, KILLS_A_CHAIN = 4, 10


@row("F38", "one process with two rounds, and two processes", cut=2, short=4, long=6)
def two_for_one(bench: Bench) -> None:
    """Two processes with one round a step leave what one with two leaves, bit for bit, and each goes on with the other's run."""
    sessions: dict[str, tuple[tuple[int, int], ...]] = {
        "2 x 1 as 1 x 2": ((2, 8),),
        "1, then 2, then 1": ((1, 3), (2, 5), (1, 8)),
        "2, then 1": ((2, 4), (1, 8)),
        "1, then 2": ((1, 1), (2, 8)),
        "2, then 1, then 2": ((2, 2), (1, 7), (2, 8)),
        "the other one at each step": tuple((1 + step % 2, step) for step in range(1, 9)),
    }
    bench.reference(*LEAN, "train.accumulate=2", plugins=OF_ALL + EMA, parts=OF_RANKS)
    bench.spread({name: partial(as_one, sessions[name]) for name in list(sessions)[: bench.count]})


def as_one(sessions: tuple[tuple[int, int], ...], bench: Bench) -> None:
    """A run in sessions, (processes, up to which step) each, against one process that nobody stopped."""
    work = bench.workspace(*LEAN, plugins=OF_ALL + EMA)
    for count, steps in sessions:
        ended = train_ranks(bench, work, f"train.steps={steps}", f"train.accumulate={2 // count}", count=count)
        assert ended.code == 0, ended.output
        assert not ended.left, ended.left
    expected = bench.reference(*LEAN, "train.accumulate=2", plugins=OF_ALL + EMA, parts=OF_RANKS)
    assert digest(work, OF_RANKS) == expected, f"other bits than those of one process, by {sessions}"


@dataclass(frozen=True, kw_only=True)
class Harmed:
    """A trial: what is done to which rank in its fourth step, which is in the second epoch, and how all must end."""

    rank: int
    does: str
    at: str = "step.start"
    """A signal, whose handler does it; or a function of the product, `package.module:Class.method`."""
    code: int
    told: str
    saved: int | None = None
    """Of which step the newest checkpoint is then; None where its thread on rank 0 may or may not have come to its end."""
    settings: tuple[str, ...] = ()

    def __call__(self, bench: Bench) -> None:
        work = bench.workspace(*LEAN, *self.settings, plugins="")
        note = work.path / "note"
        is_call = ":" in self.at
        does, at = ("nothing", "step.start") if is_call else (self.does, self.at)
        with work.config.open("a") as stream:
            stream.write(harm(note, rank=self.rank, does=does, signal=at, at=0 if is_call else STEP) + JOURNAL + EMA)
        inject = partial(self._at_call, note) if is_call else None
        ended = wait_for_group(begin_ranks(bench, work, inject=inject), note)
        assert note.exists(), ended.output
        assert ended.seconds <= SECONDS, f"it took {ended.seconds:.1f} s until all were gone:\n{ended.output}"
        assert_good_end(work, ended, self.code, self.told)
        assert self.saved is None or whole_steps(work)[-1] == self.saved, f"{whole_steps(work)}:\n{ended.output}"
        assert_goes_on(work, bench)
        bench.notes[f"x {self.does} gone within {ceil(ended.seconds)} s"] += 1

    def _at_call(self, note: Path, rank: int) -> None:
        if rank == self.rank:
            on_call(self.at, lambda count: DEEDS[self.does]() if count == STEP and note_once(note) else None)


KILLED = partial(Harmed, does="kill", code=8, told="was killed by SIGKILL")
RAISES = partial(Harmed, does="raise", code=6, told="plugin Harm failed in Harm.")
REFUSES = partial(Harmed, does="refuse", at="core.run.trainer:Trainer._rounds", code=3, told="owl.png cannot be used")
HANGS = partial(Harmed, code=8)
BACKWARD = "core.step.update:PlainUpdate.backward"
HARMS = {
    "rank 1 is killed": KILLED(rank=1, saved=3),
    "rank 0 is stopped": HANGS(rank=0, does="stop", told="rank 0 does not answer"),
    "rank 1 raises": RAISES(rank=1, at="step.end", saved=4),
    "rank 1 sleeps": HANGS(rank=1, does="sleep", told="rank 1 is at tests/faults/plugins_for_processes.py", saved=3),
    "rank 0 is killed": KILLED(rank=0),
    "rank 0 raises": RAISES(rank=0, saved=3),
    "rank 1 is stopped": HANGS(rank=1, does="stop", told="rank 1 does not answer", saved=3),
    "rank 1 is stopped, and a checkpoint is due": HANGS(
        rank=1, does="stop", at="step.end", told="rank 0 waits for rank 1", saved=4
    ),
    "rank 0 sleeps": HANGS(rank=0, does="sleep", told="rank 0 is at tests/faults/plugins", saved=2),
    "rank 1 sleeps, and a checkpoint is due": HANGS(
        rank=1, does="sleep", at="step.end", told="rank 1 is at tests/faults/plugins", saved=4,
        settings=("distributed.wait_seconds=5",),
    ),
    "rank 1 is killed within backward": KILLED(rank=1, at=BACKWARD, saved=3),
    "rank 0 is killed within backward": KILLED(rank=0, at=BACKWARD),
    "rank 1 has bad data": REFUSES(rank=1, saved=3),
    "rank 0 has bad data": REFUSES(rank=0, saved=3),
    "rank 1 waits in C": HANGS(rank=1, does="wait", told="rank 1 is at tests/faults/plugins", saved=3),
    "rank 1 holds the interpreter": HANGS(rank=1, does="hold", told="rank 1 does not answer", saved=3),
    "rank 1 sleeps, and its handler is broken off": Harmed(
        rank=1, does="sleep", code=6, told="HandlerHung: it had not ended after 1.5 s", saved=3,
        settings=("log.hang_seconds=0.5", "log.hang_limit_seconds=1.5"),
    ),
    "rank 1 has a bug": Harmed(rank=1, does="err", at="core.run.trainer:Trainer._rounds", code=1, told="TypeError", saved=2),
    "rank 0 has a bug": Harmed(rank=0, does="err", at="core.run.trainer:Trainer._rounds", code=1, told="TypeError", saved=2),
}  # fmt: skip
"""The most telling first."""
MORE_HARMS = {
    f"rank {rank} {deed} at {at}": kind(rank=rank, at=at)
    for at in ("step.start", "step.end", "batch.device", "epoch.end", "validation.end", "checkpoint.start")
    for deed, kind in (("raises", RAISES), ("is killed", KILLED))
    for rank in (0, 1)
}


@row("F41", "one of several processes ends, hangs, raises or has NaN", cut=4, short=25, long=58)
def one_of_several(bench: Bench) -> None:
    """All end in time and leave nothing behind, the first cause is told once, and the run goes on with the same bits.

    What was trained up to the last whole step is saved where the main rank is there to do it.
    """
    trials: dict[str, Callable[[Bench], None]] = {"NaN on rank 1": partial(not_a_number, 1)}
    if bench.size != "cut":
        trials |= {"the launcher is killed": launcher_killed}
        trials |= {f"{name}, at the start": partial(fails_at_start, *start) for name, start in STARTS.items()}
    trials |= HARMS if bench.size != "cut" else dict(list(HARMS.items())[: bench.count - 1])
    if bench.size != "cut":
        chains = {"short": 1, "long": 10, "cut": 0}[bench.size]
        trials |= {f"killed at random, {number}": killed_at_random for number in range(chains)}
    if bench.size == "long":
        trials |= MORE_HARMS | {"NaN on rank 0": partial(not_a_number, 0)}
    undisturbed(bench, *LEAN)
    bench.spread(trials)


def harm(note: Path, **settings: object) -> str:
    lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in settings.items())
    use = "tests.faults.plugins_for_processes.Harm"
    return f'\n[[plugins]]\nuse = "{use}"\nnote = {json.dumps(str(note))}\n{lines}\n'


def undisturbed(bench: Bench, *settings: str) -> str:
    """The digest of two processes that come to their end; made once."""
    stored = kept("two processes", settings)
    if not stored.exists():
        work = bench.workspace(*settings)
        ended = train_ranks(bench, work)
        assert ended.code == 0, ended.output
        stored.write_text(digest(work, OF_MAIN))
    return stored.read_text()


def assert_good_end(work: Workspace, ended: Group, code: int, told: str) -> None:
    """Nothing is left, the cause is told once and nothing of what followed from it, and checkpoints are whole."""
    assert not ended.left, f"left behind: {ended.left}\n{ended.output}"
    assert ended.code == code, f"{ended.code} is not {code}:\n{ended.output}"
    assert told in ended.output, f"{told!r} is not in:\n{ended.output}"
    causes = [line for line in ended.output.splitlines() if line.endswith("ends the run:") or " was killed by " in line]
    assert len(causes) <= 1, ended.output
    assert ended.output.count("Traceback (most recent call last)") <= (code in (1, 6)), ended.output
    assert not (foreign := [words for words in FOREIGN if words in ended.output]), f"{foreign} in:\n{ended.output}"
    assert not (found := torn(work)), f"these are neither absent nor complete: {found}"


def torn(work: Workspace) -> list[str]:
    """Checkpoints that say they are whole and are not; those that are being removed have lost their manifest first."""
    return [path.name for path in work.checkpoints if (path / "manifest.json").exists() and not is_whole(path)]


def assert_goes_on(work: Workspace, bench: Bench, *settings: str) -> None:
    """To its end, with the bits of a run that nobody disturbed."""
    again = train_ranks(bench, work)
    assert again.code == 0, again.output
    assert not leftovers(work), leftovers(work)
    assert digest(work, OF_MAIN) == undisturbed(bench, *(settings or LEAN)), f"other bits:\n{again.output[-2000:]}"


def not_a_number(rank: int, bench: Bench) -> None:
    """All ranks end at the same step, where its numbers are told, and no weight was touched since."""
    settings = (*LEAN, "train.on_nonfinite='stop'", "log.every_steps=1")
    work = bench.workspace(*settings, plugins=SPOILT.format(rank=rank, since=STEP - 1) + JOURNAL + EMA)
    ended = wait_for_group(begin_ranks(bench, work))
    assert_good_end(work, ended, 5, "had a loss or gradient that is not finite (train.on_nonfinite = 'stop')")
    ends = [ending_step(work.run / f"log{one}.jsonl") for one in ("", "-rank-1")]
    assert ends == [f"step {STEP - 1}"] * 2, ends
    work.config.write_text(work.config.read_text().replace(f"since = {STEP - 1}", "since = 999"))
    assert_goes_on(work, bench)


def ending_step(log: Path) -> str:
    """Up to which step numbers were bad, as this rank has noted it on its end."""
    events = [str(json.loads(line)["event"]) for line in log.read_text().splitlines()]
    said = next(event for event in events if event.startswith("the run ends with an error"))
    return said.partition("in a row up to ")[2].partition(" had")[0]


def launcher_killed(bench: Bench) -> None:
    """Nobody is there to end the ranks: they notice it, save and end by themselves."""
    work = bench.workspace(*LEAN, plugins="")
    note = work.path / "note"
    with work.config.open("a") as stream:
        stream.write(harm(note, rank=1, does="orphan", at=STEP) + JOURNAL + EMA)
    ended = wait_for_group(begin_ranks(bench, work), note, patience_seconds=SECONDS)
    assert ended.seconds <= SECONDS, f"it took {ended.seconds:.1f} s until all were gone:\n{ended.output}"
    assert_good_end(work, ended, -signal.SIGKILL, "has lost the launcher")
    assert whole_steps(work)[-1] >= STEP - 1, f"{whole_steps(work)}:\n{ended.output}"
    assert_goes_on(work, bench)


STARTS: dict[str, tuple[tuple[str, ...], str, int, str]] = {
    "there is no model": (("model.path='/there/is/none'",), "", 2, "/there/is/none"),
    "a handler spoils the config": ((), "SpoilsConfig", 2, "a run.configure handler: 1 problem"),
    "the run is another trainer's": ((), "", 2, "is being trained by process"),
}
"""By what is wrong: settings, a plugin, the exit code and what is told."""


def fails_at_start(settings: tuple[str, ...], plugin: str, code: int, told: str, bench: Bench) -> None:
    """What every rank would say is said once."""
    use = f'\n[[plugins]]\nuse = "tests.faults.plugins_for_processes.{plugin}"\n' if plugin else ""
    work = bench.workspace(*LEAN, *settings, plugins=use)
    work.run.mkdir(parents=True)
    with locked(work.run) if "another trainer" in told or "being trained" in told else nullcontext():
        ended = wait_for_group(begin_ranks(bench, work))
    assert_good_end(work, ended, code, told)
    assert ended.output.count(told) == 1, ended.output


def killed_at_random(bench: Bench) -> None:
    """A rank, or the launcher, is killed again and again at some moment, and sometimes another a little later."""
    settings = (*LEAN[:2], f"train.steps={2 * KILLS_A_CHAIN}", "checkpoint.every_steps=1", LEAN[-1])
    undisturbed(bench, *settings)
    work = bench.workspace(*settings)
    for number in range(KILLS_A_CHAIN):
        with bench.trial(f"kill {number + 1}"):
            kill_one(work, bench)
    assert_goes_on(work, bench, *settings)


def kill_one(work: Workspace, bench: Bench) -> None:
    before = whole_steps(work)
    child = begin_ranks(bench, work)
    victims = bench.random.sample(["launcher", 0, 1], bench.random.choice((1, 1, 2)))
    time.sleep(bench.random.uniform(0.3, 2.0))
    for victim in victims:
        with suppress(psutil.Error, IndexError):
            launcher = psutil.Process(child.pid)
            (launcher if victim == "launcher" else launcher.children()[int(victim)]).send_signal(signal.SIGKILL)
            bench.notes["kills"] += 1
        time.sleep(bench.random.uniform(0.0, 0.2))
    ended = wait_for_group(child, patience_seconds=SECONDS if "launcher" in victims else 0.0)
    assert not ended.left, f"left behind after {victims} were killed: {ended.left}\n{ended.output}"
    assert ended.code in (0, 8, -signal.SIGKILL), ended.output
    assert not [words for words in FOREIGN if words in ended.output], f"after {victims}:\n{ended.output}"
    assert not (found := torn(work)), f"these are neither absent nor complete: {found}"
    assert whole_steps(work)[-1:] >= before[-1:], "a whole checkpoint is gone"
