"""Every plugin class that comes with the trainer, and settings for those that need some."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from typing import Any

import plugins
from events import Plugin

NEEDED: dict[str, dict[str, Any]] = {
    "AddWords": {"words": ["film", "night"]},
    "Curves": {"rgb": [[0, 0], [100, 140], [255, 255]]},
    "LastLayers": {"layers": 1},
    "Lut": {"file": "examples/looks/faded.cube"},
    "MergeLora": {"file": "adapter.safetensors"},
    "PriorPreservation": {"folder": "dogs"},
    "RemoveWords": {"words": ["a"]},
    "ReplaceWords": {"words": {"a": "the"}},
    "Rhythm": {"what": "save", "epochs": 1},
    "TextualInversion": {"words": {"<my-cat>": "cat"}},
    "Upload": {"command": ["true", "{path}"]},
    "Webhook": {"url": "http://127.0.0.1:9/", "allow_private": True},
}
"""Settings without a default."""


def bundled() -> Iterator[type[Plugin]]:
    """In alphabetical order of their modules."""
    for module in pkgutil.iter_modules(plugins.__path__, "plugins."):
        members = vars(importlib.import_module(module.name)).values()
        yield from (
            kind
            for kind in members
            if inspect.isclass(kind) and issubclass(kind, Plugin) and kind.__module__ == module.name
        )


KINDS = list(bundled())
