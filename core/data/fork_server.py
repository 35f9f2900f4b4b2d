"""The process that loader workers are forked from, made while the training process is still importing its own libraries.

It imports what every worker needs, once; a worker of it is there in milliseconds instead of seconds. This module imports
nothing heavy, so that a run can begin with it.
"""

import multiprocessing
from multiprocessing import forkserver
from typing import Any

from ..config.tables import DataTable

NEEDED = ("torch", "PIL.Image", "transformers.tokenization_utils_tokenizers", "core.data.samples", "core.data.worker")
"""Modules that workers import; one that is not to be found is left to the worker. Those of others come first: they are
found wherever the command was given."""


def begin(settings: DataTable) -> None:
    """Start it, if workers are to come from it; returns at once. A second call does nothing."""
    if settings.workers and settings.start_method == "forkserver":
        context_of(settings)
        forkserver.ensure_running()


def context_of(settings: DataTable) -> Any:
    """The context of multiprocessing that starts workers as the settings say."""
    context: Any = multiprocessing.get_context(settings.start_method)
    if settings.start_method == "forkserver":
        context.set_forkserver_preload(list(NEEDED))
    return context
