"""A run's folder followed: what its files tell, and at each look what has changed since the one before."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..history.facts import DATA, PLAN, RECORD, SESSION, Data, Facts, Plan, Session
from ..history.reading import LOG, METRICS, State, state_of
from ..run_folder.control_files import FOLDER as CONTROL
from ..run_folder.control_files import WISHES
from ..run_folder.lock import OWNER
from ..run_folder.step_mark import marked_step
from .curves import Curve
from .log_lines import LogLines
from .now import NOW, Now
from .replaced import Replaced, read_facts
from .rounds import Rounds
from .tail import Tail

MOST_POINTS = 2000
"""Of a curve that are sent at once."""
RECORDED: Mapping[str, type[Facts]] = {SESSION: Session, PLAN: Plan, DATA: Data, NOW: Now}
"""The files of the record; each is a part, named as the file."""


@dataclass(frozen=True, slots=True)
class Change:
    """What one look has found."""

    parts: dict[str, Any] = field(default_factory=dict)
    """`status`, `session`, `plan`, `data`, `now`, `counts` as they are now; `points`, `log` and `rounds` what came."""
    is_reset: bool = False
    """Something that was told before is no longer so, as when a run goes back: all has to be read again."""


class Follower:
    """Of one run. It opens files and never writes any; not to be used by two threads at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder = folder.resolve()
        self.curves: dict[str, Curve] = {}
        self.rounds = Rounds(folder)
        self._metrics, self._log = Tail(folder / METRICS), Tail(folder / LOG)
        self._lines = LogLines()
        self._files = Replaced()
        self._facts: dict[str, Any] = {_part(name): None for name in RECORDED}
        self._session: Session | None = None
        self._told: dict[str, Any] = {}

    @property
    def state(self) -> State:
        """What the run is doing. One that has said its end is over, though its process is still closing."""
        session = self._session
        state = state_of(self.folder, session)
        if state == "running" and session and session.status != "running" and self._owner() == session.pid:
            return session.status
        return state

    def look(self) -> Change:
        """Read what has changed."""
        points, anew = self._read_metrics()
        lines, log_anew = self._read_log()
        rounds, gone = self.rounds.look()
        for name, kind in RECORDED.items():
            self._read_facts(name, kind)
        whole = {"status": self._status(), "counts": self._lines.counts(), **self._facts}
        parts = {name: value for name, value in whole.items() if name not in self._told or self._told[name] != value}
        self._told |= parts
        came = {"points": points, "log": lines, "rounds": rounds}
        return Change(parts | {name: value for name, value in came.items() if value}, anew or log_anew or gone)

    def everything(self) -> dict[str, Any]:
        """All that is known, as of the last look."""
        return self._told | {
            "run": {"name": self.folder.name, "folder": str(self.folder)},
            "curves": {name: curve.all(most=MOST_POINTS) for name, curve in self.curves.items()},
            "rounds": self.rounds.all(),
            "log": self._lines.kept(),
        }

    def _status(self) -> dict[str, Any]:
        session = self._session
        return {
            "state": self.state,
            "step": max(marked_step(self.folder), session.step if session else 0),
            "steps": session.steps if session else 0,
            "waiting": [wish for wish in WISHES if (self.folder / CONTROL / wish).exists()],
        }

    def _read_metrics(self) -> tuple[dict[str, list[tuple[int, float]]], bool]:
        lines, anew = self._metrics.read()
        if anew:
            self.curves = {}
        points: dict[str, list[tuple[int, float]]] = {}
        for step, values in filter(None, map(_metrics_of, lines)):
            for name, value in values.items():
                if isinstance(value, int | float) and math.isfinite(value):
                    anew |= not self.curves.setdefault(name, Curve()).add(step, float(value))
                    points.setdefault(name, []).append((step, float(value)))
        return points, anew

    def _read_log(self) -> tuple[list[dict[str, Any]], bool]:
        lines, anew = self._log.read()
        if anew:
            self._lines = LogLines()
        return [line for line in map(self._lines.add, lines) if line is not None], anew

    def _read_facts(self, name: str, kind: type[Facts]) -> None:
        path = self.folder / RECORD / name
        if self._files.has_changed(path):
            found = read_facts(path, kind)
            self._facts[_part(name)] = found.model_dump(mode="json") if found else None
            if kind is Session:
                self._session = found if isinstance(found, Session) else None

    def _owner(self) -> int:
        """The process that works on the run, or did; 0 where nothing says."""
        try:
            return int(json.loads((self.folder / OWNER).read_bytes())["pid"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0


def _part(name: str) -> str:
    return name.removesuffix(".json")


def _metrics_of(line: bytes) -> tuple[int, dict[str, Any]] | None:
    """(step, values by name), None for a line that is none."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    step, values = (entry.get("step"), entry.get("values")) if isinstance(entry, dict) else (None, None)
    return (step, values) if isinstance(step, int) and isinstance(values, dict) else None
