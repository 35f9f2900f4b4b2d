"""Picture sizes to train at: generated, never typed, and closed under turning a picture on its side."""

import math

Size = tuple[int, int]
"""(width, height) in pixels."""


def generate_buckets(resolution: int, multiple: int, max_aspect: float) -> tuple[Size, ...]:
    """Sides in multiples of `multiple`, area at most resolution^2 and as near to it as the sides allow.

    >>> generate_buckets(64, 16, 2.0)
    ((48, 80), (64, 64), (80, 48))
    """
    square = resolution // multiple * multiple
    widest: dict[int, int] = {}
    for width in range(square, int(resolution * math.sqrt(max_aspect)) + 1, multiple):
        height = resolution * resolution // width // multiple * multiple
        if height and width <= max_aspect * height:
            widest[height] = width
    wide = {(width, height) for height, width in widest.items()}
    return tuple(sorted(wide | {(height, width) for width, height in wide}))


def nearest_bucket(size: Size, buckets: tuple[Size, ...]) -> Size:
    """The bucket whose aspect ratio is nearest by |log(aspect)|; the larger of two that are equally near."""
    aspect = math.log(size[0] / size[1])
    return min(
        buckets, key=lambda bucket: (abs(math.log(bucket[0] / bucket[1]) - aspect), -bucket[0] * bucket[1], bucket)
    )
