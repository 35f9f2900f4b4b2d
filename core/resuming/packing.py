"""Nested state as JSON and tensors, with no pickle anywhere.

>>> tree, tensors = pack({"count": 3, "mean": [1.5, None]}, "ema")
>>> unpack(tree, tensors)
{'count': 3, 'mean': [1.5, None]}
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

TENSOR = "__tensor__"
FLOAT = "__float__"


def copy_to_host(tensor: Tensor) -> Tensor:
    """A tensor's values on the CPU, contiguous and its own; waits for the device."""
    return tensor.detach().cpu().contiguous().clone()


def pack(value: Any, path: str, copy: Callable[[Tensor], Tensor] = copy_to_host) -> tuple[Any, dict[str, Tensor]]:
    """The value with each tensor replaced by its path, and the tensors by path, each taken by `copy`.

    Raises TypeError naming the path of a value that is not a number, string, None, list, tuple, dict or tensor.
    """
    tensors: dict[str, Tensor] = {}
    return _pack(value, path, tensors, copy), tensors


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


def _pack(value: Any, path: str, tensors: dict[str, Tensor], copy: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        if path in tensors:
            raise TypeError(f"{path}: two tensors of a state go by this path; leave '/' out of keys")
        tensors[path] = copy(value)
        return {TENSOR: path}
    if isinstance(value, float) and not math.isfinite(value):
        return {FLOAT: str(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_pack(member, f"{path}/{place}", tensors, copy) for place, member in enumerate(value)]
    if isinstance(value, Mapping):
        strange = [key for key in value if not isinstance(key, str)]
        if strange:
            raise TypeError(f"{path}: keys of a stored state are strings, got {strange[0]!r}")
        if set(value) in ({TENSOR}, {FLOAT}):
            raise TypeError(f"{path}: {next(iter(value))!r} alone has a meaning of its own in a stored state")
        return {key: _pack(member, f"{path}/{key}", tensors, copy) for key, member in value.items()}
    raise TypeError(f"{path}: {type(value).__name__} cannot be stored; use numbers, strings, lists, dicts and tensors")
