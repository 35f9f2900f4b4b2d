"""Nested state as JSON and tensors, with no pickle anywhere.

>>> tree, tensors = pack({"count": 3, "mean": [1.5, None]}, "ema")
>>> unpack(tree, tensors)
{'count': 3, 'mean': [1.5, None]}
"""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

TENSOR = "__tensor__"
FLOAT = "__float__"


def pack(value: Any, path: str) -> tuple[Any, dict[str, Tensor]]:
    """The value with each tensor replaced by its path, and the tensors by path, on the CPU; waits for the device.

    Raises TypeError naming the path of a value that is not a number, string, None, list, tuple, dict or tensor.
    """
    tensors: dict[str, Tensor] = {}
    return _pack(value, path, tensors), tensors


def unpack(tree: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The value that `pack` was given; tuples come back as lists."""
    if isinstance(tree, list):
        return [unpack(member, tensors) for member in tree]
    if isinstance(tree, dict):
        if set(tree) == {TENSOR}:
            return tensors[tree[TENSOR]]
        if set(tree) == {FLOAT}:
            return float(tree[FLOAT])
        return {key: unpack(member, tensors) for key, member in tree.items()}
    return tree


def _pack(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        tensors[path] = value.detach().cpu().contiguous().clone()
        return {TENSOR: path}
    if isinstance(value, float) and not math.isfinite(value):
        return {FLOAT: str(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_pack(member, f"{path}/{place}", tensors) for place, member in enumerate(value)]
    if isinstance(value, Mapping):
        strange = [key for key in value if not isinstance(key, str)]
        if strange:
            raise TypeError(f"{path}: keys of a stored state are strings, got {strange[0]!r}")
        return {key: _pack(member, f"{path}/{key}", tensors) for key, member in value.items()}
    raise TypeError(f"{path}: {type(value).__name__} cannot be stored; use numbers, strings, lists, dicts and tensors")
