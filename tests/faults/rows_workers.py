"""Rows F27 to F29: loader workers that die, hang, or say what cannot be said between processes."""

import multiprocessing
import multiprocessing.forkserver
import os
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from .bench import EMA, JOURNAL, Bench, Ended, Workspace, digest
from .rows import row

WORKERS = ("data.workers=2", "train.steps=5", "checkpoint.every_steps=2")
TROUBLE = """
[[plugins]]
use = "tests.faults.plugins_for_data.Trouble"
kind = "{kind}"
at = "{at}"
marker = "{marker}"
"""
ODD = '\n[[plugins]]\nuse = "tests.faults.plugins_for_data.{name}"\n'
DEATHS = {"SIGSEGV": "was killed by SIGSEGV", "SIGKILL": "was killed by SIGKILL", "_exit": "ended with code 3"}
NEEDED = (
    "core.data.samples", "core.data.worker", "core.cache.latents", "core.families.parts.clip", "plugins.ema",
    "plugins.loading", "tests.faults.bench", "tests.faults.plugins_for_data", "tests.faults.plugins_for_faults",
    "transformers.models.clip.tokenization_clip",
)  # fmt: skip
"""Modules of what workers are sent."""
TIMEOUT = 2
GRACE = 2 + 8
"""Two seconds, and eight for the start and for a machine that is busy."""


@row("F27", "a loader worker dies", cut=2, short=6, long=6)
def deaths(bench: Bench) -> None:
    """One death costs no bit: another worker goes on in the same order; a second at the same picture names it."""
    _warm_workers()
    quiet = JOURNAL + EMA + TROUBLE.format(kind="", at="none", marker="")
    reference = bench.reference(*WORKERS[1:], "data.workers=0", plugins=quiet)
    trials: dict[str, Callable[[Bench], None]] = {}
    for kind, told in DEATHS.items():
        trials[f"{kind}, once"] = partial(_dies_once, kind, told, reference)
        trials[f"{kind}, again and again"] = partial(_dies_always, kind, told)
    for name, trial in list(trials.items())[: bench.count]:
        with bench.trial(name):
            trial(bench)


def _dies_once(kind: str, told: str, reference: str, bench: Bench) -> None:
    work = _workspace(bench, kind, "owl", marker=True)
    ended = _train(bench, work)
    assert ended.code == 0, ended.output
    assert work.said(f"{told}"), ended.output
    assert work.said("birds/owl.png; another takes its place and goes on there"), ended.output
    assert digest(work) == reference


def _dies_always(kind: str, told: str, bench: Bench) -> None:
    work = _workspace(bench, kind, "owl", marker=False)
    ended = _train(bench, work)
    assert ended.code == 3, ended.output
    assert told in ended.output
    assert "birds/owl.png, and so did the one before it" in ended.output, ended.output


@row("F28", "a loader worker hangs", cut=1, short=3, long=3)
def hangs(bench: Bench) -> None:
    """After data.timeout_seconds the run ends with the picture and what the worker was doing, and leaves no process."""
    _warm_workers()
    places = {
        "while training": (),
        "while validating": ("validation.fraction=0.4", "validation.every_steps=1"),
        "while the cache is filled": ("cache.latents=true", "data.workers=1"),
    }
    for name, settings in list(places.items())[: bench.count]:
        with bench.trial(name):
            work = _workspace(bench, "sleep", ".png", f"data.timeout_seconds={TIMEOUT}", *settings, marker=False)
            ended = _train(bench, work)
            assert ended.code == 3, ended.output
            assert f"for longer than data.timeout_seconds = {TIMEOUT}" in ended.output, ended.output
            assert ".png" in ended.output
            assert "in sleep_for_ever" in ended.output
            assert ended.seconds < TIMEOUT + GRACE, ended.seconds
            assert not _children_of(ended.output), ended.output


@row("F29", "what cannot travel between processes", cut=2, short=4, long=4)
def oddities(bench: Bench) -> None:
    """An exception of any class, a result that cannot be sent and a plugin that cannot be made end the run with their text."""
    _warm_workers()
    cases = {
        "an exception of a local class": (_trouble("odd exception", "owl"), "Trouble", "('odd', <function"),
        "a batch that cannot be sent": (ODD.format(name="OddBatch"), "", "lambda"),
        "a plugin that fails in workers alone": (ODD.format(name="FailsInWorkers"), "", "not in this process"),
        "a plugin that ends the worker": (_trouble("exit", "owl"), "Trouble", "enough"),
    }
    for name, (plugins, plugin, words) in list(cases.items())[: bench.count]:
        with bench.trial(name):
            work = bench.workspace(*WORKERS, plugins=JOURNAL + EMA + plugins)
            ended = _train(bench, work)
            assert ended.code not in (0, 3), ended.output
            assert words in ended.output, ended.output
            assert plugin in ended.output
            assert ended.seconds < GRACE, ended.seconds


def _trouble(kind: str, at: str, marker: str = "") -> str:
    return TROUBLE.format(kind=kind, at=at, marker=marker)


def _workspace(bench: Bench, kind: str, at: str, *settings: str, marker: bool) -> Workspace:
    done = bench.folder / f"{kind}-{marker}"
    return bench.workspace(*WORKERS, *settings, plugins=JOURNAL + EMA + _trouble(kind, at, str(done) if marker else ""))


def _train(bench: Bench, work: Workspace) -> Ended:
    return bench.train(work, inject=_use_warm_workers, timeout=120)


def _warm_workers() -> None:
    """Have one server that has imported what workers need, so that each run's workers are forked of it."""
    server: Any = multiprocessing.forkserver
    server.set_forkserver_preload(list(NEEDED))
    server.ensure_running()
    first = multiprocessing.get_context("forkserver").Process(target=os.getpid)
    first.start()
    first.join()  # now it has imported all that


def _use_warm_workers() -> None:
    """In a run: do not look for a server of its own."""
    server: Any = multiprocessing.forkserver
    server.ensure_running = server._forkserver.ensure_running = lambda: None
    os.environ["SIGNALBOX_TRAINS"] = str(os.getpid())


def _children_of(output: str) -> list[str]:
    """Processes of those named in the output that are still there."""
    words = output.replace("(", " ").replace(")", " ").split()
    pids = {after for before, after in pairwise(words) if before == "pid" and after.isdigit()}
    assert pids, output
    return [
        pid for pid in pids if Path(f"/proc/{pid}/stat").exists() and " Z " not in Path(f"/proc/{pid}/stat").read_text()
    ]
