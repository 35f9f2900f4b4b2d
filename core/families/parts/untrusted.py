"""A model comes from anybody, so its folder may hold data only: no code, and no setting that has a library fetch or run some."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

LIBRARIES = ("diffusers", "transformers")
CODE_KEYS = frozenset({"auto_map", "custom_pipeline", "custom_pipelines", "custom_generate"})
"""Keys whose value is a program for a library to import."""
KERNEL_KEYS = frozenset({"_attn_implementation", "_attn_implementation_internal", "attn_implementation"})
"""Keys whose value may be the address of a kernel."""
QUANTISED = "quantization_config"
ADAPTER = "adapter_config.json"
"""With this file in a text encoder's folder, transformers would load another model, which the file names."""
INDEX = "model_index.json"


def folder_problems(folder: Path) -> Iterator[str]:
    """What keeps a diffusers folder from being read, each naming file and key."""
    places = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    for path in [*sorted(folder.glob("*.py")), *(one for place in places for one in sorted(place.rglob("*.py")))]:
        yield f"{path} is a program; no code that comes with a model is run: remove the file, or use a copy without it"
    for path in sorted(place / ADAPTER for place in places if (place / ADAPTER).is_file()):
        yield f"{path} makes an adapter of the folder; give it a model with its own weights"
    for path in [folder / INDEX, *(one for place in (folder, *places) for one in sorted(place.glob("*config*.json")))]:
        yield from _config_problems(path)


def entry_problem(folder: Path, index: Mapping[str, Any], part: str) -> str:
    """Why what model_index.json says of a part that is loaded cannot be used; empty where it can."""
    entry = index.get(part, [None, None])
    if entry == [None, None]:
        return ""
    if isinstance(entry, list) and len(entry) == 2 and entry[0] in LIBRARIES and isinstance(entry[1], str):
        return ""
    return f"{folder / INDEX}  {part} = {entry!r} is no class of {' or '.join(LIBRARIES)}; no other is loaded"


def _config_problems(path: Path) -> Iterator[str]:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except (OSError, ValueError, RecursionError) as error:
        yield f"{path} is no JSON: {error}"
        return
    if not isinstance(table, dict):  # diffusers would take a text for the name of a model, and fetch it
        yield f"{path} is no table"
    for key, value in _members(table):
        if key in CODE_KEYS and value:
            yield f"{path} has the key {key!r}, which names code to run; remove it, or use a copy of the model without it"
        elif key in KERNEL_KEYS and _names_a_kernel(value):
            yield f"{path} has the key {key!r} = {value!r}, the address of a kernel to download and run; remove it"
        elif key == QUANTISED and value:
            yield f"{path} has the key {key!r}; quantised weights are not read"


def _members(table: Any) -> Iterator[tuple[str, Any]]:
    """Every key at every depth, with its value."""
    waiting = [table]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield from value.items()
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _names_a_kernel(value: Any) -> bool:
    """Attention that a library has itself is named by a word; one of a hub by owner and name."""
    if isinstance(value, dict):
        return any(_names_a_kernel(one) for one in value.values())
    return isinstance(value, str) and not value.replace("|", "").isidentifier()
