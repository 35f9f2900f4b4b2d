"""Signalbox beside training scripts of others: the same model, data and work, each a whole process from start to end.

A peer is a script that takes the options of diffusers' `train_text_to_image.py`; where its name ends in `lora` it trains
adapters, with the rank that `--rank` gives, and so does Signalbox:

    python -m benchmarks peers --peer diffusers=train_text_to_image.py --peer diffusers-lora=train_text_to_image_lora.py

Both sides run under the Python of the benchmarks, which must have what the scripts import. In each round the peer runs
first and last, Signalbox between, and the next round goes backwards; the peer's two runs of a round show the noise.
Each run begins with empty caches and ends with all that the program writes at its end.
"""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from benchmarks.figures import Figure, Options, Section, figure, ratios
from benchmarks.models import PIXELS, write_medium
from benchmarks.pictures import photograph, sources
from benchmarks.watched import WARM_UP, Taken, watch

RUN = Path(__file__).parent.parent / "run.py"
PICTURES, BATCH_SIZE, STEPS, RANK, THREADS = 64, 4, 16, 4, 2
"""The steps are one epoch, so that a cache holds nothing that is not used."""
QUICK_PIXELS = 64
SIZES = ((512, 384), (384, 512), (400, 320), (320, 480))
THEIRS, AGAIN = "theirs", "theirs again"
VARIANTS = {"uncached": False, "cached": True}
"""Of Signalbox: whether latents and embeddings are kept. It fills its caches within the run."""
CONFIG = """
[run]
name = "timed"
dir = {runs}
[model]
path = {model}
[data]
root = {data}
resolution = {side}
max_aspect = 1.0
[cache]
dir = {cache}
latents = {is_cached}
text = {is_cached}
[train]
steps = {steps}
batch_size = {batch_size}
learning_rate = 1e-5
[checkpoint]
every_steps = 0
[preview]
every_steps = 0
at_start = false
at_end = false
[[plugins]]
use = "plugins.progress_bar.ProgressBar"
[[plugins]]
use = "plugins.metrics_file.MetricsFile"
"""
LORA = """
[[plugins]]
use = "plugins.lora.Lora"
rank = {rank}
[export]
model = false
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One thing that is measured of a run."""

    name: str
    unit: str
    of: Callable[[Taken], float]
    is_rate: bool = False
    """Whether more is better."""


COLUMNS = (
    Column(name="steady step", unit="ms", of=lambda taken: taken.step_ms),
    Column(name="CPU of a steady step", unit="ms", of=lambda taken: taken.step_cpu_ms),
    Column(name="steps per second", unit="1/s", of=lambda taken: taken.steps_per_second, is_rate=True),
    Column(name="start to first step", unit="s", of=lambda taken: taken.first_step_seconds),
    Column(name="last step to end", unit="s", of=lambda taken: taken.ending_seconds),
    Column(name="wall", unit="s", of=lambda taken: taken.wall_seconds),
    Column(name="CPU", unit="s", of=lambda taken: taken.cpu_seconds),
    Column(name="peak memory, all processes", unit="MB", of=lambda taken: taken.together_mb),
    Column(name="peak memory, largest process", unit="MB", of=lambda taken: taken.alone_mb),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What both sides do."""

    place: Path
    """Has `model` and `data`, and gets a folder for each run."""
    steps: int = STEPS
    side: int = PIXELS

    def theirs(self, script: Path, *, is_lora: bool) -> Taken:
        """One run of the peer's script."""
        folder = self._new_folder()
        words = [
            f"--pretrained_model_name_or_path={self.place / 'model'}", f"--train_data_dir={self.place / 'data'}",
            f"--resolution={self.side}", "--center_crop", f"--train_batch_size={BATCH_SIZE}",
            f"--max_train_steps={self.steps}", "--learning_rate=1e-5", "--lr_warmup_steps=0", "--seed=0",
            f"--output_dir={folder / 'out'}", f"--cache_dir={folder / 'cache'}", *([f"--rank={RANK}"] if is_lora else []),
        ]  # fmt: skip
        return self._take(script, words, folder)

    def ours(self, *, is_cached: bool, is_lora: bool) -> Taken:
        """One run of Signalbox."""
        folder = self._new_folder()
        text = CONFIG + (LORA if is_lora else "")
        paths = {"runs": folder / "runs", "cache": folder / "cache"}
        paths |= {name: self.place / name for name in ("model", "data")}
        config = folder / "config.toml"
        config.write_text(
            text.format(
                **{name: json.dumps(str(path)) for name, path in paths.items()}, side=self.side, steps=self.steps,
                batch_size=BATCH_SIZE, is_cached=json.dumps(is_cached), rank=RANK,
            )
        )  # fmt: skip
        return self._take(RUN, ["train", str(config)], folder)

    def _new_folder(self) -> Path:
        folder = self.place / "run"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def _take(self, script: Path, words: list[str], folder: Path) -> Taken:
        threads = str(min(THREADS, os.cpu_count() or 1))
        taken = watch(script, words, folder, os.environ | {"OMP_NUM_THREADS": threads, "HF_HUB_OFFLINE": "1"})
        if len(taken.steps) != self.steps:
            raise RuntimeError(f"{script} took {len(taken.steps)} steps and not {self.steps}")
        return taken


def measure(options: Options) -> list[Figure]:
    """Of each peer the ratio of Signalbox to it in every column, and the ratio of the peer to itself."""
    if not options.peers:
        print(
            "no training script of others was given; --peer NAME=PATH gives one, and benchmarks/peers.py says of what kind"
        )
        return []
    work = prepare(options.folder, is_quick=options.is_quick)
    rounds = 1 if options.is_quick else max(2, options.rounds // 3)
    figures = []
    for name, script in options.peers.items():
        is_lora = name.endswith("lora")
        for take in contenders_of(script.resolve(), replace(work, steps=WARM_UP), is_lora=is_lora).values():
            take()  # the first of each finds its files neither compiled nor in memory
        figures += compare(name, race(contenders_of(script.resolve(), work, is_lora=is_lora), rounds))
    return figures


def contenders_of(script: Path, work: Work, *, is_lora: bool) -> dict[str, Callable[[], Taken]]:
    """One run of each."""

    def ours(*, is_cached: bool) -> Callable[[], Taken]:
        return lambda: work.ours(is_cached=is_cached, is_lora=is_lora)

    theirs = {THEIRS: lambda: work.theirs(script, is_lora=is_lora)}
    return theirs | {name: ours(is_cached=is_cached) for name, is_cached in VARIANTS.items()}


def race(contenders: dict[str, Callable[[], Taken]], rounds: int) -> dict[str, list[Taken]]:
    """The runs of each, round by round: the peer first and last, and each round in the order opposite to the one before."""
    order = [*contenders.items(), (AGAIN, contenders[THEIRS])]
    runs: dict[str, list[Taken]] = {name: [] for name, _ in order}
    for number in range(rounds):
        for name, take in order if number % 2 == 0 else reversed(order):
            runs[name].append(take())
    return runs


def compare(peer: str, runs: dict[str, list[Taken]]) -> list[Figure]:
    """Column by column: each variant to the mean of the round's two runs of the peer, and those two to each other."""
    figures = []
    for column in COLUMNS:
        values = {name: [column.of(taken) for taken in taken_by_one] for name, taken_by_one in runs.items()}
        first, again = values[THEIRS], values[AGAIN]
        theirs = [fmean(both) for both in zip(first, again, strict=True)]
        figures.append(figure(f"{peer}, {column.name}: itself / itself", ratios(again, first), "ratio"))
        for variant in VARIANTS:
            name = f"{peer}, {column.name}: Signalbox {variant} / {peer}"
            most, least = (None, 1.0) if column.is_rate else (1.0, None)
            figures.append(figure(name, ratios(values[variant], theirs), "ratio", at_most=most, at_least=least))
        figures.append(figure(f"{peer}, {column.name}: {peer}", first + again, column.unit))
        figures += [
            figure(f"{peer}, {column.name}: Signalbox {variant}", values[variant], column.unit) for variant in VARIANTS
        ]
    return figures


def prepare(folder: Path, *, is_quick: bool) -> Work:
    """The model and the pictures, with captions both in a `metadata.jsonl` and beside them."""
    write_pictures(folder / "data", 2 * BATCH_SIZE if is_quick else PICTURES)
    write_medium(folder / "model")
    return Work(place=folder, steps=3, side=QUICK_PIXELS) if is_quick else Work(place=folder)


def write_pictures(folder: Path, count: int) -> None:
    folder.mkdir()
    found, lines = sources()[1], []
    for number in range(count):
        path = folder / f"{number:03}.jpg"
        photograph(found[number % len(found)], SIZES[number % len(SIZES)], number).save(path, quality=92)
        caption = f"picture number {number} of a hill, seen from the sea in the light of the evening"
        path.with_suffix(".txt").write_text(caption)
        lines.append(json.dumps({"file_name": path.name, "text": caption}))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")


SECTION = Section(
    name="peers", question="How does Signalbox do beside other training scripts, from start to end?", measure=measure
)
