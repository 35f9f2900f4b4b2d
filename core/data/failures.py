"""Exceptions on their way from a worker to the training process, where they are raised again."""

import traceback
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from events.errors import AttachError, PluginError

from ..errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadFailure:
    """An exception as text and plain values, since not every exception survives the way between processes."""

    kind: Literal["plugin", "data", "bug"]
    text: str
    plugin: str = ""
    signal: str = ""


def failure_of(error: BaseException) -> LoadFailure:
    """What a worker sends in the place of an exception."""
    if isinstance(error, PluginError):
        return LoadFailure(kind="plugin", text=_in_full(error), plugin=error.plugin, signal=error.signal)
    if isinstance(error, AttachError):
        return LoadFailure(kind="plugin", text=f"a loader worker cannot build the plugins: {error}")
    if isinstance(error, DataError):
        return LoadFailure(kind="data", text=str(error))
    return LoadFailure(kind="bug", text=_in_full(error))


def raise_failure(failure: LoadFailure) -> NoReturn:
    """Raises PluginError or DataError as the worker did, and RuntimeError for anything else."""
    if failure.kind == "plugin":
        raise PluginError(failure.text, plugin=failure.plugin, signal=failure.signal)
    raise DataError(failure.text) if failure.kind == "data" else RuntimeError(failure.text)


def _in_full(error: BaseException) -> str:
    """The message, and the traceback of what a plugin or we did wrong."""
    cause: Any = error.__cause__ or error
    return f"{_said(error)}\n" + "".join(traceback.format_exception(cause)).rstrip()


def _said(error: BaseException) -> str:
    try:
        return str(error) or type(error).__name__
    except Exception:  # an exception whose own text cannot be made
        return type(error).__name__
