"""`run.py runs`: every run of a folder in a row, the newest first, and how to go on with those that are not complete."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..pages.document import Section, Table
from .curves import short
from .going_on import OVER, how_to_go_on
from .places import run_folders
from .reading import LOG, VALIDATION, RunHistory, read_run
from .words import duration, moment, seconds_between, size, steps_text

COLUMNS = ("run", "state", "step", "lowest loss", "began", "took", "on disk")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A run in the list, or a folder that was to be one."""

    folder: Path
    history: RunHistory | None
    """None for one that cannot be read."""
    problem: str
    bytes: int
    touched: str
    """When its log was written to last."""

    @property
    def began(self) -> str:
        session = self.history.session if self.history else None
        return session.began if session else self.touched

    @property
    def seconds(self) -> float | None:
        """Of the newest session; of one that was killed, until it was last heard of."""
        history = self.history
        if history is None or history.session is None:
            return None
        session = history.session
        return seconds_between(session.began, session.ended or self.touched)


def list_runs(folder: Path) -> list[Listed]:
    """Newest first. Raises ConfigError where the folder cannot be read."""
    return sorted(map(_listed, run_folders(folder)), key=lambda one: (one.began, one.folder.name), reverse=True)


def listing_sections(listed: Sequence[Listed], folder: Path) -> list[Section]:
    """The table, and for the runs that can be gone on with what is typed."""
    if not listed:
        return [Section(title=f"There is no run in {folder}", blocks=())]
    rows = tuple(_row(one) for one in listed)
    sections = [Section(title=f"Runs in {folder}", blocks=(Table(columns=COLUMNS, rows=rows),))]
    if unreadable := [f"{one.folder.name}: {one.problem}" for one in listed if one.history is None]:
        sections.append(Section(title="Cannot be read", blocks=tuple(unreadable)))
    return sections


def going_on(listed: Sequence[Listed]) -> Iterator[str]:
    """Two lines for each run that is neither complete nor running: why it is not, and what goes on with it."""
    for one in listed:
        history = one.history
        if history is None or history.state in OVER:
            continue
        session = history.session
        why = (session.error or session.reason) if session else ""
        said = f": {why.splitlines()[0]}" if why and history.state != "interrupted" else ""
        yield f"{one.folder.name} ({history.state} at step {history.step:,}{said})"
        yield f"    {how_to_go_on(history)}"


def as_json(listed: Sequence[Listed]) -> str:
    """A list of objects, one a run."""
    return json.dumps([_object(one) for one in listed], indent=1)


def _listed(path: Path) -> Listed:
    try:
        history, problem = read_run(path), ""
    except ConfigError as error:
        history, problem = None, error.problems[0]
    except OSError as error:
        history, problem = None, f"{error.strerror}"
    return Listed(folder=path, history=history, problem=problem, bytes=_bytes_in(path), touched=_touched(path))


def _row(one: Listed) -> tuple[str, ...]:
    history = one.history
    if history is None:
        return one.folder.name, "not readable", "", "", _here(one.began), "", size(one.bytes)
    seconds = one.seconds
    return (
        one.folder.name, history.state, steps_text(history.step, history.steps), _best(history), _here(one.began),
        "" if seconds is None else duration(seconds), size(one.bytes),
    )  # fmt: skip


def _best(history: RunHistory) -> str:
    """With the validation set, or nothing where it is that of the reports."""
    best = history.best()
    if best is None:
        return ""
    metric, step, value = best
    named = f" {metric.removeprefix(VALIDATION)}" if metric.startswith(VALIDATION) else ""
    return f"{short(value)}{named} at {step:,}"


def _object(one: Listed) -> dict[str, Any]:
    history = one.history
    shown: dict[str, Any] = {"name": one.folder.name, "folder": str(one.folder.resolve()), "bytes": one.bytes}
    if history is None:
        return shown | {"state": "not readable", "problem": one.problem}
    session, best = history.session, history.best()
    return shown | {
        "state": history.state, "step": history.step, "steps": history.steps,
        "best": None if best is None else dict(zip(("metric", "step", "value"), best, strict=True)),
        "began": one.began, "ended": session.ended if session else "", "seconds": one.seconds,
        "error": session.error if session else "", "reason": session.reason if session else "",
        "command": [*session.command] if session else [], "directory": session.directory if session else "",
        "checkpoints": [*history.checkpoints], "goes_on_with": "" if history.state in OVER else how_to_go_on(history),
    }  # fmt: skip


def _here(text: str) -> str:
    """A time on the clock of this machine."""
    found = moment(text)
    return f"{found.astimezone():%Y-%m-%d %H:%M}" if found else ""


def _touched(path: Path) -> str:
    for place in (path / LOG, path):
        try:
            return datetime.fromtimestamp(place.stat().st_mtime, UTC).isoformat(timespec="seconds")
        except OSError:
            continue
    return ""


def _bytes_in(path: Path) -> int:
    """Of all files; those that cannot be looked at count for nothing."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except OSError:
                continue
    return total
