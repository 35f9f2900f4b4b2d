"""The three decorators that mark a plugin's methods. They only mark; the bus does the rest when it attaches the plugin.

>>> class Shout:
...     @transform("sample.caption", priority=90)
...     def shout(self, caption, sample):
...         return caption.upper()
>>> [(mark.kind, mark.signal, mark.priority) for mark in marks_of(Shout.shout)]
[('transform', 'sample.caption', 90)]
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeVar

Kind = Literal["notification", "transform", "build"]
Handler = TypeVar("Handler", bound=Callable[..., Any])
DEFAULT_PRIORITY = 50
_ATTRIBUTE = "__signalbox_marks__"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One subscription that a decorator asks for."""

    kind: Kind
    signal: str
    priority: int = DEFAULT_PRIORITY
    """Low runs first; the config may override it per plugin or per signal."""
    training_only: bool = False
    """Left out where samples are made for validation."""


def on(signal: str, *, priority: int = DEFAULT_PRIORITY) -> Callable[[Handler], Handler]:
    """Look on: the method takes the event and returns nothing. It may be `async` where the catalogue allows it."""
    return _marker(Mark(kind="notification", signal=signal, priority=priority))


def transform(
    signal: str, *, priority: int = DEFAULT_PRIORITY, training_only: bool = False
) -> Callable[[Handler], Handler]:
    """Change: the method takes the value its predecessor returned and a context, and returns the next value.

    `training_only` is for augmentation and dropout: samples of validation sets go without it.
    """
    return _marker(Mark(kind="transform", signal=signal, priority=priority, training_only=training_only))


def build(part: str, *, priority: int = DEFAULT_PRIORITY) -> Callable[[Handler], Handler]:
    """Compose: the method takes a part of the step and returns a part of the same signature, once, before step 1.

    `part` is the signal's name without its ``build.``: ``@build("loss")``.
    """
    return _marker(Mark(kind="build", signal=f"build.{part.removeprefix('build.')}", priority=priority))


def marks_of(function: object) -> tuple[Mark, ...]:
    """The marks on a function, in the order they are written above it."""
    marks = getattr(function, _ATTRIBUTE, ())
    return marks if isinstance(marks, tuple) else ()  # an object that answers to any name has no marks


def _marker(mark: Mark) -> Callable[[Handler], Handler]:
    def decorate(function: Handler) -> Handler:
        if isinstance(function, property | cached_property):
            raise TypeError(f"{mark.signal} is handled by a plain def, not by a property")
        setattr(function, _ATTRIBUTE, (mark, *marks_of(function)))
        return function

    return decorate
