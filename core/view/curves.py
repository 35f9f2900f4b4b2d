"""A metric over steps, and few points that show the same shape as many."""

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any


class Curve:
    """(step, value) with steps rising; of a step that is told twice the newest value counts."""

    def __init__(self) -> None:
        self.steps = array("q")
        self.values = array("d")

    def add(self, step: int, value: float) -> bool:
        """Whether it is the newest point, so that one who has the others needs only this."""
        if not self.steps or step > self.steps[-1]:
            self.steps.append(step)
            self.values.append(value)
            return True
        place = bisect_left(self.steps, step)
        if self.steps[place] == step:
            self.values[place] = value
        else:
            self.steps.insert(place, step)
            self.values.insert(place, value)
        return False

    def between(self, first: int, last: int, *, most: int) -> dict[str, Any]:
        """The points of these steps, both included, as lists `steps` and `values`; `whole` unless they were thinned."""
        begin, end = bisect_left(self.steps, first), bisect_right(self.steps, last)
        kept = thinned(self.values[begin:end], most)
        return {
            "steps": [self.steps[begin + place] for place in kept],
            "values": [self.values[begin + place] for place in kept],
            "whole": len(kept) == end - begin,
        }

    def all(self, *, most: int) -> dict[str, Any]:
        """As `between`, of every step."""
        return self.between(self.steps[0], self.steps[-1], most=most)


def thinned(values: Sequence[float], most: int) -> list[int]:
    """Places of at most so many values: the first, the last, and of equal stretches the lowest and the highest.

    >>> thinned([1, 2, 9, 3, 4, 0, 5, 6, 7, 8], 6)
    [0, 2, 5, 9]
    >>> thinned([3, 1, 2], 6)
    [0, 1, 2]
    """
    count = len(values)
    if count <= most:
        return list(range(count))
    stretches = max((most - 2) // 2, 1)
    width = math.ceil(count / stretches)
    places = {0, count - 1}
    for begin in range(0, count, width):
        part = values[begin : begin + width]
        places.add(begin + part.index(min(part)))
        places.add(begin + part.index(max(part)))
    return sorted(places)
