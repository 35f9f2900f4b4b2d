"""The lines of a run's log that are shown: the newest, and of warnings some more."""

import json
import re
from collections import deque
from typing import Any

from ..history.reading import WARNING_LEVELS

NEWEST, WARNINGS = 2000, 500
"""How many lines are kept, and how many of level warning and above even when they are older."""
MOST_LETTERS = 8000
"""Of a text, or of a traceback."""
_PLUGIN = re.compile(r"\bplugin ([\w.-]+)")


class LogLines:
    """Filled line by line, oldest first."""

    def __init__(self) -> None:
        self._counts: dict[str, dict[str, int]] = {}
        self._newest: deque[dict[str, Any]] = deque(maxlen=NEWEST)
        self._warnings: deque[dict[str, Any]] = deque(maxlen=WARNINGS)
        self._number = 0

    def add(self, raw: bytes) -> dict[str, Any] | None:
        """The line as it is shown, numbered from 1; None for one that cannot be read."""
        try:
            entry = json.loads(raw)
        except ValueError:  # a killed run may have left it unfinished
            return None
        if not isinstance(entry, dict):
            return None
        self._number += 1
        level, text = str(entry.get("level", "")), str(entry.get("event", ""))[:MOST_LETTERS]
        line = {
            "number": self._number,
            "time": str(entry.get("timestamp", "")),
            "level": level,
            "logger": str(entry.get("logger", "")),
            "text": text,
            "detail": str(entry.get("exception", ""))[-MOST_LETTERS:],
        }
        self._newest.append(line)
        if level in WARNING_LEVELS:
            self._warnings.append(line)
            self._count(text, level)
        return line

    def counts(self) -> dict[str, dict[str, int]]:
        """How many lines of level warning and above name a plugin, by plugin and level."""
        return {plugin: dict(levels) for plugin, levels in self._counts.items()}

    def kept(self) -> list[dict[str, Any]]:
        """Oldest first."""
        first = self._newest[0]["number"] if self._newest else 0
        return [line for line in self._warnings if line["number"] < first] + list(self._newest)

    def _count(self, text: str, level: str) -> None:
        if named := _PLUGIN.search(text):
            of_plugin = self._counts.setdefault(named[1].rstrip("."), {})
            of_plugin[level] = of_plugin.get(level, 0) + 1
