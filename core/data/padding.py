"""Captions fill only part of what a model reads; where it looks away from the rest, the rest need not be computed."""

from collections.abc import Mapping, Sequence

from torch import Tensor

MASK = "mask"
"""The part of an embedding that says which tokens count, (L,)."""
STEP = 32
"""Lengths are multiples of this, so that a run has few different shapes."""


def without_padding(entries: Sequence[Mapping[str, Tensor]]) -> list[Mapping[str, Tensor]]:
    """Embeddings of a batch's captions, each without a batch dimension, as long as the longest of them needs.

    Every part that is as long as the mask is cut with it; others stay.
    """
    whole = len(entries[0][MASK])
    needed = max(int(entry[MASK].nonzero().max()) + 1 if entry[MASK].any() else 1 for entry in entries)
    length = min(-(-needed // STEP) * STEP, whole)
    return [
        {name: part[:length] if part.ndim and len(part) == whole else part for name, part in entry.items()}
        for entry in entries
    ]
