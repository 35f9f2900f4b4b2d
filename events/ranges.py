"""Ranges of a profiler around each firing and each call: the profiler comes from outside, and off they cost nothing."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from .signals import Handler, Receiver, Signal

RangeFactory = Callable[[str], AbstractContextManager[object]]
"""Makes a context that a profiler shows under this name, as `torch.profiler.record_function`."""


def fired_in_range(signal: Signal, range_of: RangeFactory) -> None:
    """Let each firing of the signal be a range of its name, unless nobody listens."""
    verb = {"notification": "emit", "transform": "apply", "build": "compose"}[signal.spec.kind]
    fire: Receiver = getattr(signal, verb)

    def fire_in_range(*arguments: Any) -> Any:
        if not signal.chain:
            return fire(*arguments)
        with range_of(signal.name):
            return fire(*arguments)

    setattr(signal, verb, fire_in_range)  # on this instance alone


def called_in_range(handler: Handler, range_of: RangeFactory) -> Receiver:
    """The handler's call in a range `plugin: Class.method`; of an async one that is the hand-over."""
    call, name = handler.call, f"{handler.plugin}: {handler.label}"

    def call_in_range(*arguments: Any) -> Any:
        with range_of(name):
            return call(*arguments)

    return call_in_range
