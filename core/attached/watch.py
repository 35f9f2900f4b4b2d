"""What each handler of a transform makes of its value: its calls are wrapped, as timing wraps them."""

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy
from PIL import Image
from torch import Tensor, equal

from events.payloads import Batch
from events.signals import Handler, Receiver, TransformSignal

from ..compute.tensors import on_tensors

Seen = Callable[[Handler, Any, Any], None]
"""Told handler, value before and value after; `before` is a copy where a handler could have changed it in place."""


def watch(signal: TransformSignal[Any, Any], seen: Seen) -> None:
    """Tell of each call of each handler. What the handlers are given and what becomes of it stays the same."""

    def wrap(handler: Handler) -> Receiver:
        def watched(value: Any, context: Any) -> Any:
            before = _kept(value)
            after = handler.call(value, context)
            if after is not None:  # else the signal refuses it
                seen(handler, before, after)
            return after

        return watched

    signal.rewrap(wrap)


def differs(before: object, after: object) -> bool:
    """Whether two values differ, in whatever they hold: pictures by their pixels, tensors by their numbers."""
    if before is after:
        return False
    if type(before) is not type(after) and not (isinstance(before, Image.Image) and isinstance(after, Image.Image)):
        return True
    if isinstance(before, Image.Image) and isinstance(after, Image.Image):
        return (before.size, before.mode) != (after.size, after.mode) or before.tobytes() != after.tobytes()
    if isinstance(before, Tensor) and isinstance(after, Tensor):
        return not equal(before, after)
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        return before.keys() != after.keys() or any(differs(value, after[key]) for key, value in before.items())
    if isinstance(before, list | tuple) and isinstance(after, list | tuple):
        return len(before) != len(after) or any(map(differs, before, after))
    if is_dataclass(before):
        return any(differs(getattr(before, field.name), getattr(after, field.name)) for field in fields(before))
    if isinstance(before, numpy.ndarray):
        return not numpy.array_equal(before, after)  # type: ignore[arg-type]  # of the same type, as asked above
    return bool(before != after)


def _kept(value: Any) -> Any:
    if isinstance(value, Image.Image):
        return value.copy()
    if isinstance(value, Tensor):
        return value.clone()
    return on_tensors(value, Tensor.clone) if isinstance(value, Batch) else value
