"""What a transform or build handler must return (P5): each check compares input and output and says what is wrong.

A check returns None when nothing is wrong, else the end of a sentence that begins with plugin and signal.
"""

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from .spec import Check

EDGE = 1e-6
"""How far an edge may lie outside of its picture, in its sides: what rounding adds."""


def of_type(*types: type) -> Check:
    """The output is an instance of one of these."""
    names = " or ".join(kind.__name__ for kind in types)

    def check(before: Any, after: Any) -> str | None:
        return None if isinstance(after, types) else f"expected {names}, got {describe(after)}"

    return check


def same_type(before: Any, after: Any) -> str | None:
    """The output has the very type of the input."""
    return None if type(after) is type(before) else f"expected {type(before).__name__}, got {describe(after)}"


def finite_field(name: str) -> Check:
    """The output has the type of the input, and this field of it is a finite number."""

    def check(before: Any, after: Any) -> str | None:
        wrong = same_type(before, after)
        if wrong is not None:
            return wrong
        value = getattr(after, name)
        is_finite = isinstance(value, int | float) and math.isfinite(value)
        return None if is_finite else f"{name}: expected a finite number, got {describe(value)}"

    return check


def tuple_of(kind: type) -> Check:
    """The output is a tuple of such members; lists are refused since payloads are immutable."""

    def check(before: Any, after: Any) -> str | None:
        if not isinstance(after, tuple):
            return f"expected a tuple of {kind.__name__}, got {describe(after)}"
        strangers = [member for member in after if not isinstance(member, kind)]
        return f"expected {kind.__name__} in the tuple, got {describe(strangers[0])}" if strangers else None

    return check


def batches_of(kind: type) -> Check:
    """The output is a tuple of batches, each a tuple of at least one such member."""
    members, batches = tuple_of(kind), tuple_of(tuple)

    def check(before: Any, after: Any) -> str | None:
        wrong = batches(before, after)
        if wrong is not None:
            return wrong
        for number, batch in enumerate(after):
            wrong = members(before, batch) if batch else f"expected at least one {kind.__name__}"
            if wrong is not None:
                return f"batch {number}: {wrong}"
        return None

    return check


def string_values(before: Any, after: Any) -> str | None:
    """A dict of str to str, such as the header of a safetensors file."""
    return _dict_of(after, str, "str")


def float_values(before: Any, after: Any) -> str | None:
    """A dict of str to float."""
    return _dict_of(after, (int, float), "float")


def within_the_picture(before: Any, after: Any) -> str | None:
    """A crop whose edges are in order and lie between 0 and 1, but for what rounding adds."""
    wrong = same_type(before, after)
    if wrong is not None:
        return wrong
    for low, high in (("left", "right"), ("top", "bottom")):
        edges = getattr(after, low), getattr(after, high)
        if not all(isinstance(edge, int | float) for edge in edges) or not -EDGE <= edges[0] < edges[1] <= 1 + EDGE:
            return f"{low} and {high}: expected 0 <= {low} < {high} <= 1, got {edges[0]!r} and {edges[1]!r}"
    return None


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
    """A payload of the input's type: its tensors pass `check`, its mappings keep their keys, its tuples their length.

    Values are checked also where output and input are one object, since a handler may have changed a tensor in place.
    """

    def check_fields(before: Any, after: Any) -> str | None:
        if after is before and check is like_tensor:
            return None  # each tensor would be held against itself
        wrong = same_type(before, after)
        if wrong is not None:
            return wrong
        for field in fields(before):
            wrong = _same_shape(check, getattr(before, field.name), getattr(after, field.name))
            if wrong is not None:
                return f"{field.name}: {wrong}"
        return None

    return check_fields


def host_tensors(before: Any, after: Any) -> str | None:
    """A dict of CPU tensors; keys may be added or left out, a key that stays keeps its shape."""
    if not isinstance(after, dict):
        return f"expected a dict of tensors, got {describe(after)}"
    for name, tensor in after.items():
        if not (isinstance(name, str) and hasattr(tensor, "dtype") and str(getattr(tensor, "device", "")) == "cpu"):
            return f"expected a CPU tensor for {name!r}, got {describe(tensor)}"
        if name in before and before[name].shape != tensor.shape:
            return f"{name}: expected {describe(before[name])}, got {describe(tensor)}"
    return None


def modules(before: Any, after: Any) -> str | None:
    """A dict of torch modules with at least the input's names."""
    if not isinstance(after, dict):
        return f"expected a dict of name to module, got {describe(after)}"
    missing = [name for name in before if name not in after]
    if missing:
        return f"expected all of {', '.join(before)}, but {missing[0]!r} is missing"
    strangers = [name for name, module in after.items() if not callable(getattr(module, "state_dict", None))]
    return f"expected a module for {strangers[0]!r}, got {describe(after[strangers[0]])}" if strangers else None


def is_callable(before: Any, after: Any) -> str | None:
    """A function, or an object that can be called as one."""
    return None if callable(after) else f"expected a function, got {describe(after)}"


def with_methods(*names: str) -> Check:
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


def _dict_of(after: Any, kinds: type | tuple[type, ...], name: str) -> str | None:
    if not isinstance(after, dict):
        return f"expected a dict of str to {name}, got {describe(after)}"
    for key, value in after.items():
        if not isinstance(key, str):
            return f"expected keys of type str, got {describe(key)}"
        if not isinstance(value, kinds):
            return f"expected a {name} for {key!r}, got {describe(value)}"
    return None


def _same_shape(check: Check, old: Any, new: Any) -> str | None:
    """One field of a payload, and recursively what a mapping holds."""
    if hasattr(old, "dtype"):
        return check(old, new)
    if isinstance(old, Mapping):
        if not isinstance(new, Mapping) or old.keys() != new.keys():
            return f"expected the keys {', '.join(map(repr, old))}, got {describe(new)}"
        wrongs = ((name, _same_shape(check, value, new[name])) for name, value in old.items())
        return next((f"{name}: {wrong}" for name, wrong in wrongs if wrong is not None), None)
    if isinstance(old, tuple) and (not isinstance(new, tuple) or len(old) != len(new)):
        return f"expected a tuple of {len(old)}, got {describe(new)}"
    return None
