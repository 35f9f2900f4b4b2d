"""What a second process brings, and what the processes say to each other.

Two runs of the same batches a step take turns: one process that takes two rounds, and two that take one each, every process
with one thread. In each of them a plain DDP loop takes its steps beside ours (`side_by_side.py`), so that what Signalbox
adds can be told from what DDP, gloo and the machine do. A further run counts messages (`messages.py`).
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import sleep
from typing import Self

from benchmarks.bare_loop import WARM_UP
from benchmarks.figures import Figure, Options, Point, Section, figure, ratios
from benchmarks.messages import ASK_AT, KEYS, KINDS, NOTHING, OURS, OVERRIDES, REPEATS, THEIRS, Said
from benchmarks.models import PIXELS
from benchmarks.runs import SMALL, write_config
from benchmarks.side_by_side import Triple, read_triples
from benchmarks.step import CONFIG, PLUGINS, prepare

ROOT = Path(__file__).parent.parent
COUNTS = (2, 4)
"""Of processes whose messages are counted."""
BATCH_SIZES = {"demo": 32, "medium": 2}
ROUNDS, QUICK_ROUNDS = {"demo": 6, "medium": 2}, {"demo": 2}
"""Steps of each that a turn asks for."""
REPEATED = 1000
"""How often an epoch shows a picture, so that none ends in a step with fewer batches than ranks."""
NAMES = {"ours": "Signalbox", "loop": "a plain DDP loop", "silent": "loops that exchange nothing"}
CPU, WALL = 0, 1
BESIDE = "benchmarks.side_by_side.SideBySide"
OUTPUT = "output.txt"
LOOK_SECONDS, SAID = 0.02, 3000


def measure(options: Options) -> list[Figure]:
    """Messages, and for a small and a larger model what two processes bring."""
    figures = [*messages(options.folder, COUNTS[:1] if options.is_quick else COUNTS)]
    for model, rounds in (QUICK_ROUNDS if options.is_quick else ROUNDS).items():
        work = Work.prepared(options.folder, model, rounds)
        figures += compare(model, *take_turns(work, 1 if options.is_quick else options.rounds), rounds)
    return figures


# what is said


def messages(folder: Path, counts: Sequence[int]) -> Iterator[Figure]:
    """By kind of boundary what a rank says at most, and what gradients take."""
    for count in counts:
        said = count_messages(folder / f"messages-{count}", count)
        yield from (one for kind in KINDS for one in of_boundary(kind, said, count))
        quiet = [rank.at(NOTHING) for rank in said]
        if count == counts[0]:
            calls, sent = max(one.calls_of(OURS, KEYS) for one in quiet), max(one.sent_by(OURS, KEYS) for one in quiet)
            yield figure(f"{NOTHING}: exchanges and looks into the store that are ours", [calls], "calls", at_most=0)
            yield figure(f"{NOTHING}: bytes that are ours", [sent], "bytes", at_most=0)
            yield figure(f"{NOTHING}: broadcasts of buffers", [max(map(broadcasts, said))], "calls", at_most=0)
        ring = 2 * (count - 1) / count * said[0].gradient_bytes
        name = f"{count} processes: bytes that accelerate sends in a step / a ring's of the gradients"
        yield figure(name, [one.sent_by(THEIRS) / ring for one in quiet], "ratio", at_most=1.02)


def of_boundary(kind: str, said: Sequence[Said], count: int) -> Iterator[Figure]:
    found = [rank.at(kind) for rank in said]
    point = Point(line=kind, at=count, along="processes")
    calls, sent = (max(one.calls_of(OURS, KEYS) for one in found), max(one.sent_by(OURS, KEYS) for one in found))
    yield figure(f"{kind}, {count} processes: calls that are ours", [calls], "calls of a rank", point=point)
    yield figure(f"{kind}, {count} processes: bytes that are ours", [sent], "bytes of a rank", point=point)


def broadcasts(said: Said) -> int:
    return sum(
        count for one in said.intervals for name, count in one.calls.items() if name == f"{THEIRS} _broadcast_coalesced"
    )


def count_messages(folder: Path, count: int) -> list[Said]:
    """A run in which each kind of boundary comes, with so many processes."""
    folder.mkdir()
    plugin = f'\n[[plugins]]\nuse = "benchmarks.messages.Messages"\nfolder = {json.dumps(str(folder / "said"))}\n'
    config = write_config(folder, steps=26, unet=SMALL, more=f"{plugin}ask_at = {ASK_AT}\n")
    repeat(folder / "pictures", REPEATS)
    with started(config, count, OVERRIDES, folder / OUTPUT) as process:
        wait_for(process, folder / OUTPUT)
    return [Said.read(folder / "said" / f"rank-{rank}.json") for rank in range(count)]


# what a second process brings


@dataclass(frozen=True, slots=True, kw_only=True)
class Turning:
    """A run that takes steps when it is its turn."""

    count: int
    folder: Path
    process: subprocess.Popen[bytes]

    def take(self, turn: int) -> None:
        """Turn 0 is the warm-up, which it takes by itself. Raises RuntimeError when it has ended."""
        (self.folder / f"turn-{turn}").touch()
        ends = [self.folder / f"over-{turn}-{rank}" for rank in range(self.count)]
        while not all(end.exists() for end in ends):
            if self.process.poll() is not None:
                wait_for(self.process, self.folder / OUTPUT)
                raise RuntimeError("a run ended before its turn was over")
            sleep(LOOK_SECONDS)


def take_turns(work: "Work", turns: int) -> tuple[list[Triple], list[Triple]]:
    """Steps of one process with two rounds each, and of two processes with one."""
    with ExitStack() as stack:
        runs = [stack.enter_context(work.running(count, turns)) for count in (1, 2)]
        for turn in range(turns + 1):
            for run in runs if turn % 2 else reversed(runs):
                run.take(turn)
        for run in runs:
            (run.folder / f"turn-{turns + 1}").touch()
            wait_for(run.process, run.folder / OUTPUT)
    one, two = (read_triples(run.folder, run.count) for run in runs)
    return one, two


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What both kinds of run train."""

    model: str
    place: Path
    rounds: int
    """Steps of each that a turn asks for."""

    @classmethod
    def prepared(cls, folder: Path, model: str, rounds: int) -> Self:
        """Model and pictures."""
        place = prepare(folder, model)
        repeat(place / "data", REPEATED)
        return cls(model=model, place=place, rounds=rounds)

    @contextmanager
    def running(self, count: int, turns: int) -> Iterator[Turning]:
        folder = self.place / f"turns-{count}"
        folder.mkdir()
        config = folder / "config.toml"
        config.write_text(self._config(count, folder, turns), encoding="utf-8")
        with started(config, count, (f"train.accumulate={2 // count}",), folder / OUTPUT) as process:
            yield Turning(count=count, folder=folder, process=process)

    def _config(self, count: int, folder: Path, turns: int) -> str:
        is_demo = self.model == "demo"
        words = {
            "name": f"scaling-{count}", "runs": str(self.place / "runs"), "model": str(self.place / "model"),
            "data": str(self.place / "data"), "cache": str(folder / "cache"), "is_cached": True, "is_text_cached": True,
            "steps": WARM_UP + turns * self.rounds, "batch_size": BATCH_SIZES[self.model],
        }  # fmt: skip
        written = {name: json.dumps(value) for name, value in words.items()}
        written["train"] = 'train = ["unet"]' + '\nfrom_scratch = ["unet", "text_encoder"]' * is_demo
        written["sizes"] = f"resolution = {32 if is_demo else PIXELS}\nmax_aspect = 1.0"
        beside = f"folder = {json.dumps(str(folder))}\nrounds = {self.rounds}\n"
        used = "".join(f'[[plugins]]\nuse = "{path}"\n' for path in (*PLUGINS, BESIDE))
        return CONFIG.format(**written) + used + beside


def repeat(pictures: Path, times: int) -> None:
    """Have an epoch show each picture so often."""
    for place in {path.parent for path in pictures.rglob("*.txt")}:
        (place / "multiply.txt").write_text(str(times))


def compare(model: str, one: Sequence[Triple], two: Sequence[Triple], rounds: int) -> list[Figure]:
    """What is of one run is compared step by step, and what is of two turn by turn."""

    def turns(triples: Sequence[Triple], name: str, clock: int) -> list[float]:
        times = [getattr(triple, name)[clock] for triple in triples]
        return [median(times[place : place + rounds]) for place in range(0, len(times), rounds)]

    def times(triples: Sequence[Triple], name: str, clock: int) -> list[float]:
        return [getattr(triple, name)[clock] for triple in triples]

    figures, gains = [], {}
    for name, said in NAMES.items():
        gains[name] = ratios(turns(one, name, WALL), turns(two, name, WALL))
        figures.append(figure(f"{model}: pictures a second, 2 processes / 1: {said}", gains[name], "ratio"))
        cpu = ratios(turns(two, name, CPU), turns(one, name, CPU))
        figures.append(figure(f"{model}: CPU a picture, 2 processes / 1: {said}", cpu, "ratio"))
    figures.append(
        figure(f"{model}: that gain, ours / the loop's", ratios(gains["ours"], gains["loop"]), "ratio", at_least=0.98)
    )
    for triples, count in ((one, "1 process"), (two, "2 processes")):
        for clock, unit in ((CPU, "CPU"), (WALL, "wall")):
            beside = ratios(times(triples, "ours", clock), times(triples, "loop", clock))
            figures.append(figure(f"{model}, {count}: ours / the loop, {unit}", beside, "ratio", at_most=1.02))
    exchange = ratios(times(two, "loop", WALL), times(two, "silent", WALL))
    figures.append(figure(f"{model}, 2 processes: the loop / without exchange, wall", exchange, "ratio"))
    for triples, count in ((one, "1 process x 2 rounds"), (two, "2 processes x 1 round")):
        figures.append(
            figure(f"{model}, {count}: a step of ours, wall", [1e3 * one for one in times(triples, "ours", WALL)], "ms")
        )
    return figures


# processes


@contextmanager
def started(config: Path, count: int, settings: Sequence[str], output: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`run.py` with so many processes, which end with this at the latest."""
    words = [word for setting in settings for word in ("--set", setting)]
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "run.py"), str(config), "--processes", str(count), *words], cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL, stdout=file,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.terminate()
            process.wait()


def wait_for(process: subprocess.Popen[bytes], output: Path) -> None:
    """Raises RuntimeError, with what was said, when it fails."""
    if process.wait():
        raise RuntimeError(f"a run ended with {process.returncode}: {output.read_text(errors='replace')[-SAID:]}")


SECTION = Section(
    name="scaling", question="What does a second process bring, and what do the processes say to each other?",
    measure=measure,
)  # fmt: skip
