"""Paths that another trainer was given: found from here or from its files' folder, and told where they are not."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .outcome import Tree

IN_PLUGINS = ("folder", "start_from", "file")
"""Settings of plugins that are paths."""
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
WEIGHTS = (".safetensors", ".ckpt", ".pt", ".bin")
"""Endings of files of weights."""
Settle = Callable[[str, str], str]


def settle_paths(tree: Tree, folder: Path) -> list[str]:
    """Make each path one that is seen from here, in place; returns what is to be said of those that are not there."""
    told: list[str] = []

    def settle(key: str, path: str) -> str:
        for one in (Path(path).expanduser(), folder / path):
            if one.exists():
                return str(one)
        told.append(f"{key}  {path} is not there{_remedy(key, path)}")
        return path

    for table, values in tree.items():
        if table != "plugins":
            _settle_table(table, values, settle)
    for entry in tree.get("plugins", ()):
        for name in IN_PLUGINS:
            if isinstance(entry.get(name), str):
                entry[name] = settle(f"{entry['use']}: {name}", entry[name])
    return told


def _settle_table(table: str, values: dict[str, Any], settle: Settle) -> None:
    for key in list(_path_keys(table, values)):
        value = values[key]
        if isinstance(value, list):
            values[key] = [settle(f"{table}.{key}", one) for one in value]
        elif isinstance(value, dict):
            values[key] = {name: settle(f"{table}.{key}.{name}", one) for name, one in value.items()}
        else:
            values[key] = settle(f"{table}.{key}", value)


def _path_keys(table: str, values: dict[str, Any]) -> Iterator[str]:
    named = {"model": ("path", "base_config"), "data": ("root",), "preview": ("prompts",), "validation": ("sets",)}
    yield from (key for key in named.get(table, ()) if key in values)


def _remedy(key: str, path: str) -> str:
    if key == "model.path" and HUB_NAME.fullmatch(path) and not path.endswith(WEIGHTS):
        name = path.rpartition("/")[2]
        return f"; nothing is downloaded: `hf download {path} --local-dir models/{name}`, then name that folder"
    return "; name where it is now"
