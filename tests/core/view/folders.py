"""Folders of runs, made as a run makes them, for tests that need none to be trained."""

import json
import shutil
from pathlib import Path
from typing import Any

from core.history.facts import (  # fmt: skip
    DATA,
    PLAN,
    RECORD,
    ROUND,
    SESSION,
    Data,
    Handler,
    HandlerTime,
    Picture,
    Plan,
    PlannedSignal,
    PluginFacts,
    Round,
    Session,
    Status,
)
from core.history.recording import write_facts
from core.log.redaction import Redactor
from core.run_folder.lock import OWNER
from tests.small_runs import PICTURES

OWL, FOX = PICTURES / "birds" / "owl.png", PICTURES / "animals" / "fox.png"


def make_run(folder: Path, *, status: Status = "complete", steps: int = 40) -> Path:
    """A run of two plugins that has told of 20 steps, with two rounds of previews."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.toml").write_text("[run]\n")
    owned(folder, 1)
    session(folder, status, steps=steps)
    handler = Handler(plugin="Ema", handler="Ema.begin", priority=50, is_async=False, source="ema.py:1")
    signal = PlannedSignal(name="model.ready", kind="notification", where="training", handlers=(handler,))
    record(folder / RECORD / PLAN, Plan(signals=(signal,)))
    record(folder / RECORD / DATA, Data(items=9, without_caption=1, buckets={"32x32": 9}, validation={"held_out": 2}))
    for step in range(2, 21, 2):
        report(folder, step, loss=1 / step)
    log_line(folder, "it begins")
    preview(folder, 10, OWL)
    preview(folder, 20, FOX)
    return folder


def session(folder: Path, status: Status, *, steps: int = 40, pid: int = 1) -> None:
    """`pid` is of the process that trains, which is another than the one that looks on."""
    record(
        folder / RECORD / SESSION,
        Session(
            status=status, run=folder.name, pid=pid, began="2026-01-01T10:00:00+00:00", step=20, steps=steps,
            plugins=(PluginFacts(name="Ema", use="plugins.ema.Ema", version=1),), command=("python", "run.py"),
            times=(HandlerTime(plugin="Ema", signal="model.ready", handler="Ema.begin", where="training", calls=1,
                               seconds=0.5, slowest_seconds=0.5),),
        ),
    )  # fmt: skip


def owned(folder: Path, pid: int) -> None:
    """As the process that holds a run's lock leaves it."""
    (folder / OWNER).write_text(json.dumps({"pid": pid, "host": "here"}))


def record(path: Path, facts: Any) -> None:
    write_facts(path, facts, Redactor())


def report(folder: Path, step: int, **values: float) -> None:
    append(folder / "metrics.jsonl", {"step": step, "epoch": 0, "values": values})


def log_line(folder: Path, text: str, *, level: str = "info") -> None:
    append(folder / "log.jsonl", {"event": text, "level": level, "logger": "t", "timestamp": "2026-01-01T10:00:00Z"})


def preview(folder: Path, step: int, picture: Path, *, text: str = "owl", file: str = "00-owl.png") -> Path:
    """A round with one picture."""
    home = folder / "previews" / f"step-{step:06d}"
    home.mkdir(parents=True, exist_ok=True)
    if "/" not in file:
        shutil.copy(picture, home / file)
    one = Picture(file=file, text=text, seed=0, width=32, height=32, steps=2, guidance=3, note="held out")
    record(home / ROUND, Round(step=step, reason="every", pictures=(one,)))
    return home / file


def append(path: Path, entry: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.write(f"{json.dumps(entry)}\n")
