"""Requests to a run as files in its folder, so that a person, a page or a script can ask what handlers ask by `control`.

``touch runs/demo/control/preview`` asks for previews. Only a run with a plugin that looks here takes requests up.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Literal, get_args

from events.control import Control

FOLDER = "control"
Wish = Literal["stop", "save", "preview", "evaluate", "export"]
"""What can be asked for; each is a method of Control."""
WISHES: tuple[Wish, ...] = get_args(Wish)
MAX_REASON = 200
"""Characters of a reason that are read."""


def ask(run: Path, wish: Wish, *, reason: str = "") -> None:
    """Leave a request in a run's folder, whole or not at all; one that still waits is replaced. Raises OSError."""
    folder = run / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    temporary = folder / f".{wish}.{os.getpid()}"
    temporary.write_text(reason, encoding="utf-8")
    os.replace(temporary, folder / wish)


def take(run: Path) -> list[tuple[Wish, str]]:
    """Remove and return the requests that wait, each with its reason; a file of any other name stays.

    Who of several lookers removes a file has it; a disk that fails gives none.
    """
    folder = run / FOLDER
    try:
        present = set(os.listdir(folder))
    except OSError:
        return []
    taken: list[tuple[Wish, str]] = []
    for wish in WISHES:
        if wish in present:
            with suppress(OSError):
                reason = _reason_in(folder / wish)
                os.unlink(folder / wish)
                taken.append((wish, reason))
    return taken


def hand_over(run: Path, control: Control, *, asker: str) -> None:
    """Ask the run for what is wished for in its folder. About ten microseconds when there is nothing."""
    for wish, reason in take(run):
        getattr(control, wish)(reason=reason or "asked by a file", asker=asker)


def forget(run: Path) -> None:
    """Remove requests that nobody has taken up, so that they do not reach the next session."""
    take(run)


def _reason_in(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        text = file.read(MAX_REASON)
    return "".join(letter if letter.isprintable() else " " for letter in text).strip()
