"""What code the plugins of a run are: class path, version, file and sha256 of that file, for the log and the checkpoints."""

import hashlib
import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from events.bus import Bus
from events.plugin import Plugin


def plugin_facts(bus: Bus) -> list[dict[str, Any]]:
    """By plugin in the config's order: `name`, `use`, `version`, `file` and `sha256` of the module that its class is in.

    `file` and `sha256` are empty for a class that no file defines.
    """
    return [_facts(name, plugin) for name, plugin in bus.plugins.items()]


def fact_lines(facts: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A line for each plugin, as the log tells them at the start of a run."""
    for one in facts:
        yield f"{one['name']}: {one['use']} version {one['version']}, {one['file'] or 'no file'}, sha256 {_digest(one)}"


def code_lines(facts: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A line for each plugin that is the same wherever the same code lies."""
    for one in facts:
        yield f"{one['name']}: {one['use']} version {one['version']}, sha256 {_digest(one)}"


def _digest(facts: dict[str, Any]) -> str:
    return str(facts["sha256"])[:16] or "unknown"


def _facts(name: str, plugin: Plugin) -> dict[str, Any]:
    kind = type(plugin)
    file = _file_of(kind)
    return {
        "name": name,
        "use": f"{kind.__module__}.{kind.__qualname__}",
        "version": plugin.version,
        "file": str(file or ""),
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest() if file else "",
    }


def _file_of(kind: type[Plugin]) -> Path | None:
    try:
        found = inspect.getsourcefile(kind) or ""
    except TypeError:  # made by hand, in no module that has a file
        return None
    return Path(found).resolve() if Path(found).is_file() else None
