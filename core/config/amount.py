"""A setting that is one value, the same for every sample, or a range from which each sample draws its own.

>>> Within(0, 1).checked(0.5), Within(0, 1).checked([0.25, 0.75])
(0.5, (0.25, 0.75))
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from events.plugin import Subscription
from events.randomness import Streams

Amount = float | tuple[float, float]
"""In a settings model: `hue: Annotated[Amount, Within(-180, 180)] = 0.0`."""


@dataclass(frozen=True, slots=True)
class Within:
    """What an amount may be: both ends are allowed."""

    low: float
    high: float

    def checked(self, given: Any) -> Amount:
        """Raises ValueError with a sentence about the value. A range without extent is one value."""
        is_range = isinstance(given, list | tuple)
        values = tuple(given) if is_range else (given,)
        if len(values) != 1 + is_range or not all(_is_number(value) for value in values):
            raise ValueError(f"{given!r} is neither a number nor [low, high], two numbers to draw from")
        for value in values:
            if not self.low <= value <= self.high:
                raise ValueError(f"{value:g} is not between {self.low:g} and {self.high:g}")
        low, high = float(values[0]), float(values[-1])
        if low > high:
            raise ValueError(f"low = {low:g} is above high = {high:g}")
        return low if low == high else (low, high)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.checked)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        number = {"type": "number", "minimum": self.low, "maximum": self.high}
        return {"anyOf": [number, {"type": "array", "items": number, "minItems": 2, "maxItems": 2}]}


def is_random(*amounts: Amount) -> bool:
    """Whether any of them is a range."""
    return any(isinstance(amount, tuple) for amount in amounts)


def drawn(amount: Amount, rng: Streams) -> float:
    """The value itself, or one of its range, uniformly; only a range draws, so a fixed value leaves caches on."""
    return rng.py.uniform(*amount) if isinstance(amount, tuple) else amount


def in_training_only(subscriptions: Iterable[Subscription], *, when: bool) -> Iterator[Subscription]:
    """The same, left out where samples are made for validation just when `when` says so.

    What is drawn anew for each sample is augmentation; what is the same for all of them is how the data is meant to
    look, in validation too.
    """
    for one in subscriptions:
        yield replace(one, mark=replace(one.mark, training_only=when))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
