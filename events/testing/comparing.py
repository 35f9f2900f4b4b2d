"""Whether two values are the same through and through: tensors and pictures by their content, payloads field by field.

>>> are_equal({"tags": ("a", "b")}, {"tags": ("a", "b")}), are_equal(("a",), ["a"])
(True, False)
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any


def are_equal(one: Any, other: Any) -> bool:
    """Of the same type and content. Reads every value, so tensors on a device are waited for."""
    if hasattr(one, "getbands") and hasattr(other, "getbands"):  # pictures, whichever format they were read from
        return bool((one.mode, one.size, one.tobytes()) == (other.mode, other.size, other.tobytes()))
    if type(one) is not type(other):
        return False
    if hasattr(one, "dtype"):
        return bool(one.dtype == other.dtype and one.shape == other.shape and (one == other).all())
    if is_dataclass(one):
        return all(are_equal(getattr(one, field.name), getattr(other, field.name)) for field in fields(one))
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(are_equal(value, other[key]) for key, value in one.items())
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(are_equal, one, other))
    return bool(one == other)
