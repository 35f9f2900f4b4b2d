"""Whether all processes of a run have found the same data; they would train on different pictures in one plan else."""

import base64
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import DataError
from ..ranks.crew import Crew
from .identity import DIGEST_BYTES, changes, identity
from .sets import FoundSets
from .table import ItemTable

MOST_COMPARED = 50_000
"""Pictures of a set up to which the differences are told one by one; their digests go through the board."""


def require_same_data(crew: Crew, found: FoundSets) -> None:
    """Raises DataError, with what differs, where this rank has found other data than the main one.

    Digests are exchanged, and more only where they differ. Waits for every rank's scan.
    """
    if not crew.are_several:
        return
    sets = {"the training pictures": found.training}
    sets |= {f"validation set {name}": items for name, items in found.validation.items()}
    digests = crew.outcomes("the data", {name: items.digest() for name, items in sets.items()})
    if all(one == digests[0] for one in digests):
        return
    of_main = crew.from_main("what the main rank has found", lambda: {name: _packed(one) for name, one in sets.items()})
    if digests[crew.rank] == digests[0]:
        assert crew.board is not None
        crew.board.wait_for_cause()  # those that differ tell how
    said = "".join(f"\n  {line}" for line in _differences(of_main, sets))
    raise DataError(
        f"rank {crew.rank} has found other data than rank 0; give every machine the same files under the same paths, and"
        f" let no data.items plugin draw by chance:{said}"
    )


def _differences(of_main: Mapping[str, Any], sets: Mapping[str, ItemTable]) -> Iterator[str]:
    for name in {**of_main, **sets}:
        if name not in sets or name not in of_main:
            yield f"{name}: only rank 0 has it" if name in of_main else f"{name}: rank 0 has none"
        elif of_main[name]["digest"] != sets[name].digest():
            counts = f"{name}: {len(sets[name])} in place of {of_main[name]['count']}"
            stored = _unpacked(of_main[name]["identity"])
            told = changes(stored, sets[name]) if stored else None
            yield counts if told is None else f"{counts}; {told.sentence() if told else 'the same in another order'}"


def _packed(items: ItemTable) -> dict[str, Any]:
    """What another rank needs to say how its own differ; without the digests of items where they are very many."""
    parts = identity(items) if len(items) <= MOST_COMPARED else {}
    packed = {name: base64.b64encode(part.numpy().tobytes()).decode() for name, part in parts.items()}
    return {"count": len(items), "digest": items.digest(), "identity": packed}


def _unpacked(packed: Mapping[str, str]) -> dict[str, Tensor]:
    return {
        name: torch.frombuffer(bytearray(base64.b64decode(part)), dtype=torch.uint8).reshape(-1, DIGEST_BYTES)
        for name, part in packed.items()
    }
