"""What a decorator leaves on a function: a mark for each signal that it wants. Nothing is subscribed by it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeVar

from .ranks import On

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
    ranks: On | None = None
    """Of several processes those that it runs on; None: as the signal has it."""
    collective: bool = False
    """It waits for the other ranks, see `events.ranks`."""


def marks_of(function: object) -> tuple[Mark, ...]:
    """The marks on a function, in the order they are written above it."""
    marks = getattr(function, _ATTRIBUTE, ())
    return marks if isinstance(marks, tuple) else ()  # an object that answers to any name has no marks


def marker(mark: Mark) -> Callable[[Handler], Handler]:
    """A decorator that puts the mark in front of those a function has. It raises TypeError for a property."""

    def decorate(function: Handler) -> Handler:
        if isinstance(function, property | cached_property):
            raise TypeError(f"{mark.signal} is handled by a plain def, not by a property")
        setattr(function, _ATTRIBUTE, (mark, *marks_of(function)))
        return function

    return decorate
