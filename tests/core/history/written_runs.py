"""Folders as runs leave them, written by hand: quick to make, and of any state."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from core.history.facts import DATA, PLAN, RECORD, ROUND, SESSION, Data, Picture, Plan, Round, Session

CONFIG = '[run]\nname = "{name}"\ndir = {dir}\n\n[train]\nsteps = 100\nlearning_rate = {rate}\n'
Curve = Mapping[int, float]


def write_run(
    folder: Path,
    *,
    curves: Mapping[str, Curve] | None = None,
    session: Mapping[str, Any] | None = None,
    data: Data | None = None,
    plan: Plan | None = None,
    rounds: Sequence[Round] = (),
    log: Sequence[tuple[str, str]] = (),
    config: str = "",
    rate: float = 0.1,
) -> Path:
    """`session` holds what is other than of a complete run of 100 steps; None leaves no record. `log` has (level, text)."""
    folder.mkdir(parents=True)
    text = config or CONFIG.format(name=folder.name, dir=json.dumps(str(folder.parent)), rate=rate)
    (folder / "config.toml").write_text(text)
    write_curves(folder, curves or {})
    if session is not None:
        _write(folder / RECORD / SESSION, made_session(folder.name, **session).model_dump_json())
    if data is not None:
        _write(folder / RECORD / DATA, data.model_dump_json())
    if plan is not None:
        _write(folder / RECORD / PLAN, plan.model_dump_json())
    for one in rounds:
        _write(folder / "previews" / f"step-{one.step:06d}" / ROUND, one.model_dump_json())
        for picture in one.pictures:
            image = Image.new("RGB", (picture.width, picture.height), (one.step % 256, 80, 80))
            image.save(folder / "previews" / f"step-{one.step:06d}" / picture.file)
    lines = [
        {"timestamp": f"2026-07-03T10:00:{number % 60:02}Z", "level": level, "logger": "signalbox.run", "event": said}
        for number, (level, said) in enumerate(log)
    ]
    (folder / "log.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return folder


def write_curves(folder: Path, curves: Mapping[str, Curve]) -> None:
    steps = sorted({step for points in curves.values() for step in points})
    lines = [
        {"step": step, "epoch": 0, "values": {name: points[step] for name, points in curves.items() if step in points}}
        for step in steps
    ]
    if lines:
        (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def made_session(run: str, **changed: Any) -> Session:
    known: dict[str, Any] = {
        "status": "complete", "run": run, "pid": 1, "began": "2026-07-03T10:00:00+00:00", "step": 100, "steps": 100,
        "ended": "2026-07-03T10:10:00+00:00", "seconds": {"steps": 500.0, "data": 90.0, "previews": 10.0},
        "versions": {"torch": "2.9"}, "reason": "complete",
        "command": ("python", "run.py", "train", "my config.toml"), "directory": str(Path.cwd()),
    }  # fmt: skip
    return Session(**(known | changed))


def made_round(step: int, *texts: str, size: int = 16) -> Round:
    pictures = tuple(
        Picture(file=f"{number:02d}.png", text=text, seed=number, width=size, height=size, steps=2, guidance=3.0)
        for number, text in enumerate(texts)
    )
    return Round(step=step, reason="every", pictures=pictures)


def falling(last: int = 100, *, by: int = 10, start: float = 1.0) -> dict[int, float]:
    """A loss that falls with the steps."""
    return {step: start / (1 + step / 10) for step in range(by, last + 1, by)}


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
