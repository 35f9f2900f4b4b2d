"""How to go on with a run that is not complete: what was typed, and what has to be added so that it means this run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..invocation import invocation
from .reading import RunHistory
from .words import command_line

OVER = ("complete", "running")
"""States of runs that nobody needs to go on with."""
UNTOLD = "what was typed is not known; this is the config that it had"


def how_to_go_on(history: RunHistory) -> str:
    """A command; or what has to be done before there is one."""
    session, own = history.session, history.folder.resolve()
    table = _run_table(history.config)
    name = str(table.get("name", own.name))
    added: list[str] = []
    if _meant_by(name, own.parent) != own.name:
        if _meant_by(own.name, own.parent) != own.name:
            newer = _meant_by(own.name, own.parent)
            return f"its name means {newer} by now: rename the folder, and give its new name with --set run.name=NAME"
        added += ["--set", f"run.name={own.name}"]
    directory = Path(session.directory) if session and session.directory else Path.cwd()
    if (directory / str(table.get("dir", "runs"))).resolve() != own.parent:
        added += ["--set", f"run.dir={own.parent}"]
    if session is not None and session.command:
        return command_line([*session.command, *added], session.directory)
    typed = command_line([*invocation(), "train", str(history.folder / "config.toml"), *added])
    return f"{typed}  ({UNTOLD})"


def _meant_by(name: str, folder: Path) -> str:
    """The run that a config with this `run.name` goes on with: the highest of `name`, `name-2`, `name-3`, ..."""
    number = 2
    while (folder / f"{name}-{number}").exists():
        number += 1
    return name if number == 2 else f"{name}-{number - 1}"


def _run_table(config: Mapping[str, Any]) -> Mapping[str, Any]:
    table = config.get("run")
    return table if isinstance(table, dict) else {}
