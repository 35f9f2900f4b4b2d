"""A run's folder read back: whatever is there, of a run that goes on, is over, was killed, or is of an older version."""

import json
import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import tomli
from filelock import FileLock, Timeout
from pydantic import ValidationError

from ..errors import ConfigError
from ..run_folder.lock import LOCK
from ..run_folder.step_mark import marked_step
from .facts import DATA, PLAN, RECORD, ROUND, SESSION, Data, Facts, Plan, Round, Session

log = logging.getLogger("signalbox.run")
METRICS, LOG, CONFIG = "metrics.jsonl", "log.jsonl", "config.toml"
VALIDATION = "validation/"
"""What the names of validation losses begin with."""
WARNING_LEVELS = frozenset({"warning", "error", "critical"})
State = Literal["running", "complete", "stopped", "failed", "interrupted", "unknown"]
"""`interrupted`: its process is gone without a word. `unknown`: nothing tells, as of a run of an older version."""
Points = Sequence[tuple[int, float]]
"""(step, value) with steps rising."""
Kind = TypeVar("Kind", bound=Facts)


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of `log.jsonl`."""

    time: str
    level: str
    logger: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunHistory:
    """What a run's files tell."""

    folder: Path
    state: State
    step: int
    """Steps taken, as far as is known."""
    steps: int
    """Of the whole run; 0 where nothing says."""
    session: Session | None
    plan: Plan
    data: Data | None
    config: Mapping[str, Any]
    config_text: str
    curves: Mapping[str, Points]
    """By the name of the metric; validation losses as `validation/<set>`. Values that were not finite are left out."""
    rounds: tuple[Round, ...]
    """Previews, by step."""
    warnings: tuple[LogLine, ...]
    checkpoints: tuple[int, ...]
    """Steps, rising."""
    exports: tuple[Path, ...]
    problems: tuple[str, ...] = field(default=())
    """Files that are there and could not be read."""

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    def best(self) -> tuple[str, int, float] | None:
        """(metric, step, value) of the lowest validation loss of the first set, else of the lowest reported loss."""
        measured = [name for name in self.curves if name.startswith(VALIDATION)]
        for name in (*measured[:1], "loss"):
            if points := self.curves.get(name):
                step, value = min(points, key=lambda point: point[1])
                return name, step, value
        return None


def read_run(folder: Path) -> RunHistory:
    """Raises ConfigError for a folder that holds no run. A file that cannot be read is named in `problems`."""
    if not (folder / CONFIG).is_file() and not (folder / RECORD).is_dir():
        raise ConfigError("run", [f"{folder} is no folder of a run: it holds no {CONFIG}"])
    problems: list[str] = []
    session = _facts(folder / RECORD / SESSION, Session, problems)
    config_text = _text(folder / CONFIG, problems)
    config = _toml(folder / CONFIG, config_text, problems)
    steps = session.steps if session else _steps_of(config)
    state = state_of(folder, session)
    curves = read_curves(folder / METRICS)
    marked = max(marked_step(folder), session.step if session else 0)
    return RunHistory(
        folder=folder, state=state, step=marked, steps=steps, session=session,
        plan=_facts(folder / RECORD / PLAN, Plan, problems) or Plan(),
        data=_facts(folder / RECORD / DATA, Data, problems),
        config=config, config_text=config_text, curves=curves, rounds=read_rounds(folder),
        warnings=tuple(line for line in read_log(folder / LOG) if line.level in WARNING_LEVELS),
        checkpoints=tuple(sorted(_steps_in(folder / "checkpoints"))),
        exports=tuple(sorted(path for path in (folder / "exports").glob("*-step-*") if path.is_dir())),
        problems=tuple(problems),
    )  # fmt: skip


def read_session(folder: Path) -> Session | None:
    """The newest session; None where there is no record of it, or none that can be read."""
    return _facts(folder / RECORD / SESSION, Session, [])


def read_plan(folder: Path) -> Plan | None:
    """The plan of the newest session, likewise."""
    return _facts(folder / RECORD / PLAN, Plan, [])


def state_of(folder: Path, session: Session | None) -> State:
    """What a run is doing, by its lock and its record."""
    if session is not None and session.pid == os.getpid() and session.status != "running":
        return session.status  # of this process, which is about to let go
    if is_locked(folder):
        return "running"
    if session is None:
        return "unknown"
    return "interrupted" if session.status == "running" else session.status


def is_locked(folder: Path) -> bool:
    """Whether a process works on the run."""
    path = folder / LOCK
    if not path.is_file():
        return False
    lock = FileLock(path, mode=0o600)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except (OSError, NotImplementedError):
        return False
    lock.release()
    return False


def read_curves(path: Path) -> dict[str, list[tuple[int, float]]]:
    """The metrics of a run by name; a step that was told twice has the newest value."""
    curves: dict[str, dict[int, float]] = {}
    for entry in _json_lines(path):
        step, values = entry.get("step"), entry.get("values")
        if isinstance(step, int) and isinstance(values, dict):
            for name, value in values.items():
                if isinstance(value, int | float) and math.isfinite(value):
                    curves.setdefault(name, {})[step] = float(value)
    return {name: sorted(points.items()) for name, points in curves.items()}


def read_rounds(folder: Path) -> tuple[Round, ...]:
    """The preview rounds by step, each with what its pictures show."""
    found = (_facts(path, Round, []) for path in (folder / "previews").glob(f"step-*/{ROUND}"))
    return tuple(sorted((one for one in found if one is not None), key=lambda one: one.step))


def round_folder(folder: Path, step: int) -> Path:
    """Where the pictures of a round lie."""
    return folder / "previews" / f"step-{step:06d}"


def read_log(path: Path) -> Iterator[LogLine]:
    """The lines of a log that can be read, oldest first."""
    for entry in _json_lines(path):
        yield LogLine(
            time=str(entry.get("timestamp", "")), level=str(entry.get("level", "")),
            logger=str(entry.get("logger", "")), text=str(entry.get("event", "")),
        )  # fmt: skip


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        file = path.open(encoding="utf-8", errors="replace")
    except OSError:
        return
    with file:
        for line in file:
            try:
                entry = json.loads(line)
            except ValueError:  # a line that is being written, or that a killed run left unfinished
                continue
            if isinstance(entry, dict):
                yield entry


def _facts(path: Path, kind: type[Kind], problems: list[str]) -> Kind | None:
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        problems.append(f"{path}: {type(error).__name__}")
        return None


def _text(path: Path, problems: list[str]) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        problems.append(f"{path}: {error.strerror}")
        return ""


def _toml(path: Path, text: str, problems: list[str]) -> dict[str, Any]:
    try:
        return tomli.loads(text)
    except (ValueError, RecursionError) as error:
        problems.append(f"{path}: {error}")
        return {}


def _steps_of(config: Mapping[str, Any]) -> int:
    train = config.get("train")
    steps = train.get("steps") if isinstance(train, dict) else None
    return steps if isinstance(steps, int) else 0


def _steps_in(folder: Path) -> Iterator[int]:
    numbers = (path.name.removeprefix("step-") for path in folder.glob("step-*"))
    return (int(number) for number in numbers if number.isdecimal())
