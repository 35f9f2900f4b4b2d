"""What a checkpoint costs training: how long it is held up, and how much slower it gets, beside a save in the foreground.

Three runs take turns in one process, on a model of about 26 million trained weights (over 300 MB a checkpoint): without
checkpoints, with each one written before training goes on, and as Signalbox does it.
"""

import sys
from pathlib import Path
from time import perf_counter
from unittest.mock import patch

from benchmarks.figures import Figure, Options, Section, figure, ratios
from benchmarks.runs import SMALL, execute, write_config

STEPS, EVERY, MOST_ROUNDS = 48, 8, 3
"""A run of these takes most of a minute."""
QUICK_STEPS, QUICK_EVERY = 6, 2
KINDS = ("none", "foreground", "background")
LARGE = SMALL | {"block_out_channels": (128, 256), "layers_per_block": 2, "attention_head_dim": 64}
Times = dict[str, list[float]]


def measure(options: Options) -> list[Figure]:
    """Runs of each kind in turns."""
    steps, every = (QUICK_STEPS, QUICK_EVERY) if options.is_quick else (STEPS, EVERY)
    held, seconds = {kind: list[float]() for kind in KINDS}, {kind: list[float]() for kind in KINDS}
    config = write_config(options.folder, steps=steps, unet=SMALL if options.is_quick else LARGE)
    for _ in range(min(options.rounds, MOST_ROUNDS)):
        for kind in KINDS:
            seconds[kind].append(train(config, kind, 0 if kind == "none" else every, held[kind]))
    return figures_of(held, seconds, steps=steps, every=every)


def train(config: Path, kind: str, every: int, held: list[float]) -> float:
    """One run; returns the seconds of its steps, and adds how long each save held it up, the first of a run left out."""
    from core.run.artefacts import Artefacts
    from core.run.trainer import Trainer

    save, run_to_the_end = Artefacts.save, Trainer.run_to_the_end
    saves: list[float] = []
    span = {"begun": 0.0, "ended": 0.0}

    def timed_save(self: Artefacts, *arguments: object) -> None:
        begun = perf_counter()
        save(self, *arguments)  # type: ignore[arg-type]
        if kind == "foreground":
            self.settle(wait=True)
        saves.append(perf_counter() - begun)

    def note_begin(self: Trainer) -> str:
        span["begun"] = perf_counter()
        return run_to_the_end(self)

    def note_end(self: Artefacts, *arguments: object, **options: object) -> None:
        span["ended"] = perf_counter()
        self.settle(wait=True)

    with (
        patch.object(Artefacts, "save", timed_save),
        patch.object(Trainer, "run_to_the_end", note_begin),
        patch.object(Artefacts, "at_end", note_end),
    ):
        execute(config, [f"checkpoint.every_steps={every}"])
    held += saves[1:]
    return span["ended"] - span["begun"]


def figures_of(held: Times, seconds: Times, *, steps: int, every: int) -> list[Figure]:
    saved = "held up by a save"
    return [
        figure(f"{saved}, background / foreground", ratios(held["background"], held["foreground"]), "ratio", at_most=1.0),
        *(
            figure(f"{steps} steps, a checkpoint every {every}, {kind} / none", ratios(seconds[kind], seconds["none"]), "ratio")
            for kind in KINDS[1:]
        ),
        *(figure(f"{saved}, {kind}", [1e3 * one for one in held[kind]], "ms") for kind in KINDS[1:]),
        figure(f"{steps} steps without checkpoints", seconds["none"], "s"),
    ]  # fmt: skip


SECTION = Section(
    name="checkpoints", question="How long does a checkpoint hold training up, and what does it cost?", measure=measure
)

if __name__ == "__main__":
    from benchmarks.__main__ import main

    sys.exit(main([SECTION.name, *sys.argv[1:]]))
