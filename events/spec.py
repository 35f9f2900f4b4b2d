"""What a signal is on paper: its name, kind, place, payload and check. The catalogue is a list of these."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from .marks import Kind
from .ranks import On

Event = TypeVar("Event")
Value = TypeVar("Value")
Context = TypeVar("Context")
Part = TypeVar("Part")

Where = Literal["training", "worker"]
"""The process a handler runs in: the training process, or the loader workers (also with `data.workers = 0`)."""
Pace = Literal["step", "epoch", "run"]
"""How often it fires, hence how slow a handler may be before it is named."""
Check = Callable[[Any, Any], str | None]
"""Compares a transform's input with its output; returns what is wrong in words, or None."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SignalSpec:
    """The entry of one signal in the catalogue."""

    name: str
    meaning: str
    """One sentence for `run.py events`."""
    where: Where = "training"
    pace: Pace = "step"
    main_only: bool = False
    """Of several processes only the main one fires it, since it is about something that is done once."""

    kind = "notification"

    @property
    def parameters(self) -> tuple[str, ...]:
        """What a handler takes after `self`, in words."""
        return ("event",)

    @property
    def allows_async(self) -> bool:
        return False

    @property
    def carries(self) -> str:
        """What a handler is given, in words."""
        return ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Notification(SignalSpec, Generic[Event]):
    """Handlers look on."""

    payload: type[Event]
    asynchronous: bool = False
    """Async handlers are allowed, since the payload holds host values only."""
    coalesced: bool = False
    """An event that still waits for an async handler is replaced by the next: only the newest matters."""
    ranks: On = "main"
    """Where its handlers run when they do not say."""
    on_failure: Literal["policy", "raise", "continue"] = "policy"
    """`policy`: the plugin's `on_error`. `raise`: always. `continue`: every handler is called and failures are logged."""

    kind: Kind = "notification"

    @property
    def allows_async(self) -> bool:
        return self.asynchronous

    @property
    def carries(self) -> str:
        return self.payload.__name__


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Transform(SignalSpec, Generic[Value, Context]):
    """Handlers change a value, each taking what its predecessor returned."""

    value: str
    """The value's type and range in words."""
    context: type[Context]
    check: Check
    bind: Callable[[Context, str, str], Context] | None = None
    """Gives a handler its own context (its random streams) from (context, plugin name, signal name)."""

    kind: Kind = "transform"

    @property
    def parameters(self) -> tuple[str, ...]:
        return ("value", "context")

    @property
    def carries(self) -> str:
        return f"{self.value}, with {self.context.__name__}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Build(SignalSpec, Generic[Part, Context]):
    """Handlers take a part of the step and return one of the same signature."""

    part: str
    """The part's signature in words."""
    context: type[Context]
    check: Check
    bind: Callable[[Part, str], Part] | None = None
    """Wraps the part a plugin returned, so that its random draws are its own, from (part, plugin name)."""

    kind: Kind = "build"

    @property
    def parameters(self) -> tuple[str, ...]:
        return ("part", "context")

    @property
    def carries(self) -> str:
        return f"{self.part}, with {self.context.__name__}"
