"""One function for every tensor that a payload holds, wherever it stands in it."""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from torch import Tensor

Payload = TypeVar("Payload")


def on_tensors(payload: Payload, change: Callable[[Tensor], Tensor]) -> Payload:
    """A copy of a dataclass in which each tensor, also those in mappings, is what `change` makes of it."""
    changed: dict[str, Any] = {}
    for field in fields(payload):  # type: ignore[arg-type]  # every payload is a dataclass
        value = getattr(payload, field.name)
        if isinstance(value, Tensor):
            changed[field.name] = change(value)
        elif isinstance(value, Mapping) and any(isinstance(member, Tensor) for member in value.values()):
            changed[field.name] = {name: change(member) for name, member in value.items()}
    return replace(payload, **changed)  # type: ignore[type-var]  # as above


def tensors_of(payload: object) -> list[Tensor]:
    """Every tensor that `on_tensors` would change."""
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    on_tensors(payload, note)
    return found
