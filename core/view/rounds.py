"""The rounds of previews of a run, as they come, are rendered again, or go."""

import os
from pathlib import Path
from typing import Any

from ..history.facts import ROUND, Round
from ..history.reading import round_folder
from .replaced import Replaced, read_facts


class Rounds:
    """Of one run's folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = Replaced()
        self._rounds: dict[int, dict[str, Any]] = {}

    def look(self) -> tuple[list[dict[str, Any]], bool]:
        """(those that are new or were rendered again, whether any is gone)."""
        came, there = [], set()
        for step in _steps(self._folder):
            path = round_folder(self._folder, step) / ROUND
            if self._files.has_changed(path) and (found := read_facts(path, Round)) is not None:
                told = {"step": step, "version": self._files.version(path)}
                self._rounds[step] = {**found.model_dump(mode="json"), **told}
                came.append(self._rounds[step])
            if self._files.is_there(path):
                there.add(step)
        gone = self._rounds.keys() - there
        for step in gone:
            del self._rounds[step]
        return came, bool(gone)

    def all(self) -> list[dict[str, Any]]:
        """By step, as in `round.json`, each with the `version` of its pictures."""
        return [self._rounds[step] for step in sorted(self._rounds)]

    def picture(self, step: int, file: str) -> Path | None:
        """The preview of this name, if a round lists it and it lies in the folder of that round."""
        listed = self._rounds.get(step, {}).get("pictures", ())
        home = round_folder(self._folder, step).resolve()
        if file not in [picture["file"] for picture in listed]:
            return None
        path = (home / file).resolve()
        return path if path.parent == home and path.is_file() else None


def _steps(folder: Path) -> list[int]:
    """Of the folders of previews, rising."""
    try:
        names = os.listdir(folder / "previews")
    except OSError:
        return []
    numbers = [name.removeprefix("step-") for name in names if name.startswith("step-")]
    return sorted(int(number) for number in numbers if number.isdecimal())
