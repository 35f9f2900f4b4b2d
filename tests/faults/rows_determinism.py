"""Rows F36 to F42: what must not matter to the bits of a run."""

import locale
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

from tests.small_runs import ROOT

from .bench import EMA, JOURNAL, Bench, Workspace, copy_pictures, digest
from .injectors import shuffle_folders
from .rows import row

PLUGINS = JOURNAL + EMA + '\n[[plugins]]\nuse = "plugins.captions.DropCaption"\nprobability = 0.5\n'
RANDOM = ("data.crop='random'", "data.flip_p=0.5", "train.steps=5", "checkpoint.every_steps=0")
"""A run that draws in its loader, its plugins and its step."""
LOADERS = (
    ("data.workers=1", "data.prefetch=1"),
    ("data.workers=2",),
    ("data.workers=1", "data.start_method='spawn'"),
    ("data.workers=4", "data.prefetch=1"),
    ("data.workers=2", "data.start_method='spawn'", "data.prefetch=4"),
    ("data.workers=3", "data.prefetch=5"),
    ("data.workers=4", "data.start_method='spawn'"),
)
OTHER_LOADERS = (("0", "1"), ("2", "1"), ("1", "0"), ("1", "2"), ("2", "0"), ("0", "4"))


@row("F36", "workers, prefetch and start method", cut=1, short=4, long=len(LOADERS))
def loaders(bench: Bench) -> None:
    """Any number of workers, however started and however far ahead, gives the bits of a run without workers."""
    bench.reference(*RANDOM, plugins=PLUGINS)
    bench.spread({" ".join(loader): partial(same_with, loader) for loader in LOADERS[: bench.count]})


def same_with(loader: tuple[str, ...], bench: Bench) -> None:
    work = bench.workspace(*RANDOM, *loader, plugins=PLUGINS)
    ended = bench.train(work, timeout=120)
    assert ended.code == 0, ended.output
    assert digest(work) == bench.reference(*RANDOM, plugins=PLUGINS)


@row("F37", "resumed with another number of workers", cut=1, short=3, long=len(OTHER_LOADERS))
def other_workers(bench: Bench) -> None:
    """A run that goes on with more or fewer workers ends as the unbroken one."""
    bench.reference(*RANDOM, plugins=PLUGINS)
    bench.spread({f"{a} to {b} workers": partial(same_after, a, b) for a, b in OTHER_LOADERS[: bench.count]})


def same_after(before: str, after: str, bench: Bench) -> None:
    work = bench.workspace(*RANDOM, plugins=PLUGINS)
    stopped = bench.train(work, "train.steps=2", f"data.workers={before}", timeout=120)
    assert stopped.code == 0, stopped.output
    ended = bench.train(work, f"data.workers={after}", timeout=120)
    assert ended.code == 0, ended.output
    assert digest(work) == bench.reference(*RANDOM, plugins=PLUGINS)


@row("F39", "hash seed, locale, time zone, folder and its order, umask", cut=1, short=9, long=20)
def surroundings(bench: Bench) -> None:
    """Nothing that a process inherits from its surroundings, and no order of a folder, changes a bit."""
    bench.reference(*RANDOM, plugins=PLUGINS)
    trials: dict[str, Callable[[Bench], None]] = {"all at once, another hash seed": partial(same_elsewhere, "7")}
    ways: dict[str, Callable[[], object]] = {
        "listdir shuffled": partial(shuffle_folders, random.Random(1)),
        "umask 0": partial(os.umask, 0),
        "umask 077": partial(os.umask, 0o077),
        "locale C": partial(set_locale, "C"),
        "time zone": partial(set_zone, "Asia/Kathmandu"),
        "another folder": partial(os.chdir, "/"),
        "a Turkish locale": partial(set_locale, "tr_TR.UTF-8"),
    }
    trials |= {name: partial(same_in, way) for name, way in ways.items()}
    trials |= {f"hash seed {seed}": partial(same_elsewhere, str(seed)) for seed in range(12)}
    bench.spread(dict(list(trials.items())[: bench.count]))


def same_in(change: Callable[[], object], bench: Bench) -> None:
    work = bench.workspace(*RANDOM, plugins=PLUGINS)
    ended = bench.train(work, inject=change)
    assert ended.code == 0, ended.output
    assert digest(work) == bench.reference(*RANDOM, plugins=PLUGINS)


ELSEWHERE = """
import random, sys
from tests.faults.injectors import shuffle_folders
shuffle_folders(random.Random(1))
import run
sys.exit(run.main())
"""


def same_elsewhere(hash_seed: str, bench: Bench) -> None:
    """A process of its own, since the seed of Python's hashes is settled when it starts; all else is changed as well."""
    work = bench.workspace(*RANDOM, plugins=PLUGINS)
    surroundings = {"PYTHONHASHSEED": hash_seed, "LC_ALL": "C", "TZ": "Pacific/Apia", "OMP_NUM_THREADS": "1",
                    "PYTHONPATH": str(ROOT)}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, "train", str(work.config)], cwd=work.path, umask=0,
        env=os.environ | surroundings, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert digest(work) == bench.reference(*RANDOM, plugins=PLUGINS)


def set_locale(name: str) -> None:
    os.environ["LC_ALL"] = name
    try:
        locale.setlocale(locale.LC_ALL, name)
    except locale.Error:  # not installed here; programs that ask the environment still see it
        locale.setlocale(locale.LC_ALL, "C")


def set_zone(name: str) -> None:
    os.environ["TZ"] = name
    time.tzset()


WATCHED = ("step", "optimizer", "position.step", "position.epoch", "position.batches_done", "position.images",
           "plugins.Journal", "plugins.Ema")  # fmt: skip
"""Of a checkpoint: all that lookers-on have no part in."""
APART = ("birds/penguin", "birds/eagle", "fruit/kiwi-fruit")
"""Pictures of the demo that are not trained on here."""
LOOKERS_ON = {
    "validation": ("validation.every_steps=1", "validation.repeats=2"),
    "previews": ("preview.every_steps=2", "preview.at_start=true", "preview.at_end=true"),
    "reports at every step": ("log.every_steps=1",),
    "reports at every third": ("log.every_steps=3",),
    "no checkpoint in between": ("checkpoint.every_steps=0",),
    "all of them": ("validation.every_steps=2", "preview.every_steps=1", "preview.at_start=true", "log.every_steps=1",
                    "export.at_end=true", "checkpoint.every_steps=1"),
}  # fmt: skip
LISTENERS = """
[[plugins]]
use = "plugins.metrics_file.MetricsFile"
[[plugins]]
use = "plugins.progress_bar.ProgressBar"
[[plugins]]
use = "plugins.preview_evolution.PreviewEvolution"
"""


@row("F40", "reports, validation, previews and checkpoints on or off", cut=2, short=7, long=7)
def lookers_on(bench: Bench) -> None:
    """Whoever only looks on, and however often, does not move a draw of training."""
    plain = bench.workspace("data.crop='random'", "data.flip_p=0.5", plugins=PLUGINS)
    with bench.trial("nobody looks on"):
        ended = bench.train(plain)
        assert ended.code == 0, ended.output
    names = list(LOOKERS_ON)[: bench.count - 1] if bench.size != "cut" else ["all of them"]
    bench.spread({name: partial(same_watched, name, plain) for name in names})


def same_watched(name: str, plain: Workspace, bench: Bench) -> None:
    work = bench.workspace(
        "data.crop='random'", "data.flip_p=0.5", *LOOKERS_ON[name],
        plugins=PLUGINS + LISTENERS * (name == "all of them"),
    )  # fmt: skip
    if any(key.startswith("validation") for key in LOOKERS_ON[name]):
        apart = copy_pictures(work.path / "apart", APART)
        work.config.write_text(work.config.read_text() + f"\n[validation.sets]\napart = '{apart}'\n")
    ended = bench.train(work)
    assert ended.code == 0, ended.output
    assert digest(work, WATCHED) == digest(plain, WATCHED)
