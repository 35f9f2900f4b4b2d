"""Mappings inside payloads: every handler of a signal is given the same one, so none may change it."""

from collections.abc import Mapping
from typing import Any, NoReturn, TypeVar

Key = TypeVar("Key")
Member = TypeVar("Member")


class ReadOnly(dict[Key, Member]):
    """A dict that cannot be changed; JSON and pickle take it as the dict it is.

    >>> ReadOnly(loss=0.5)["loss"] = 0.0
    Traceback (most recent call last):
    TypeError: this belongs to the event, which cannot be changed; work on a copy, such as dict(...)
    """

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("this belongs to the event, which cannot be changed; work on a copy, such as dict(...)")

    __setitem__ = __delitem__ = __ior__ = _refuse
    update = setdefault = pop = popitem = clear = _refuse

    def __reduce__(self) -> tuple[type["ReadOnly[Key, Member]"], tuple[dict[Key, Member]]]:
        return type(self), (dict(self),)


def freeze(payload: object, *names: str) -> None:
    """Make mappings of a payload that is being built read-only, nested ones too."""
    for name in names:
        object.__setattr__(payload, name, read_only(getattr(payload, name)))


def read_only(value: Any) -> Any:
    """A mapping as ReadOnly, copied unless it is one; anything else as it is."""
    if isinstance(value, ReadOnly) or not isinstance(value, Mapping):
        return value
    return ReadOnly((key, read_only(member)) for key, member in value.items())
