"""What a signal is on paper: its name, kind, place, payload and checks. The catalogue is a list of these."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from .subscribe import Kind

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


def of_type(*types: type) -> Check:
    """The output is an instance of one of these."""
    names = " or ".join(kind.__name__ for kind in types)

    def check(before: Any, after: Any) -> str | None:
        return None if isinstance(after, types) else f"expected {names}, got {describe(after)}"

    return check


def same_type(before: Any, after: Any) -> str | None:
    """The output has the very type of the input."""
    return None if type(after) is type(before) else f"expected {type(before).__name__}, got {describe(after)}"


def tuple_of(name: str) -> Check:
    """The output is a tuple whose members are named `name`; lists are refused since payloads are immutable."""

    def check(before: Any, after: Any) -> str | None:
        if not isinstance(after, tuple):
            return f"expected a tuple of {name}, got {describe(after)}"
        strangers = [member for member in after if type(member).__name__ != name]
        return f"expected {name} in the tuple, got {describe(strangers[0])}" if strangers else None

    return check


def string_values(before: Any, after: Any) -> str | None:
    """A dict of str to str, such as the header of a safetensors file."""
    if not isinstance(after, dict):
        return f"expected a dict of str to str, got {describe(after)}"
    wrong = [key for key, value in after.items() if not (isinstance(key, str) and isinstance(value, str))]
    return f"expected str for {wrong[0]!r}, got {describe(after[wrong[0]])}" if wrong else None


def float_values(before: Any, after: Any) -> str | None:
    """A dict of str to float."""
    if not isinstance(after, dict):
        return f"expected a dict of str to float, got {describe(after)}"
    wrong = [key for key, value in after.items() if not isinstance(value, int | float)]
    return f"expected a number for {wrong[0]!r}, got {describe(after[wrong[0]])}" if wrong else None


def like_image(before: Any, after: Any) -> str | None:
    """A PIL image; any size, since bucketing has its turn later."""
    return None if hasattr(after, "getbands") else f"expected a PIL image, got {describe(after)}"


def like_tensor(before: Any, after: Any) -> str | None:
    """The same shape, dtype and device. Reads no values, so it never waits for the device."""
    for attribute in ("shape", "dtype", "device"):
        if not hasattr(after, attribute) or getattr(before, attribute) != getattr(after, attribute):
            return f"expected {describe(before)}, got {describe(after)}"
    return None


def finite_tensor(before: Any, after: Any) -> str | None:
    """As `like_tensor`, and every value finite. For host tensors only, since it reads the values."""
    wrong = like_tensor(before, after)
    if wrong is None and not bool(after.isfinite().all()):
        return "expected finite values, got NaN or infinity"
    return wrong


def same_fields(check: Check) -> Check:
    """A payload of the input's type whose tensors each pass `check` against the input's tensor of that name."""

    def check_fields(before: Any, after: Any) -> str | None:
        if type(after) is not type(before):
            return f"expected {type(before).__name__}, got {describe(after)}"
        for name in type(before).__dataclass_fields__:
            old, new = getattr(before, name), getattr(after, name)
            if old is not new and hasattr(old, "dtype"):
                wrong = check(old, new)
                if wrong is not None:
                    return f"{name}: {wrong}"
        return None

    return check_fields


def same_keys_and_tensors(before: Any, after: Any) -> str | None:
    """A dict of tensors; keys may be added or left out, a key that stays keeps its shape."""
    if not isinstance(after, dict):
        return f"expected a dict of tensors, got {describe(after)}"
    for name, tensor in after.items():
        if not hasattr(tensor, "dtype"):
            return f"expected a tensor for {name!r}, got {describe(tensor)}"
        if name in before and before[name].shape != tensor.shape:
            return f"{name}: expected {describe(before[name])}, got {describe(tensor)}"
    return None


def is_callable(before: Any, after: Any) -> str | None:
    return None if callable(after) else f"expected a function, got {describe(after)}"


def same_methods(*names: str) -> Check:
    """An object that has these methods."""

    def check(before: Any, after: Any) -> str | None:
        missing = [name for name in names if not callable(getattr(after, name, None))]
        return f"expected an object with {', '.join(names)}, got {describe(after)}" if missing else None

    return check


def describe(value: Any) -> str:
    """A value in an error message: a tensor by shape, dtype and device, anything else by type and a short repr."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        shape = ", ".join(str(side) for side in value.shape)
        return f"Tensor[{shape}] {str(value.dtype).removeprefix('torch.')} on {getattr(value, 'device', 'cpu')}"
    if value is None:
        return "None"
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
