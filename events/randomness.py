"""Random numbers that are a pure function of their place in the run, never of when or in which process they are drawn.

A place is a tuple such as ``(seed, "epoch", 3, "cats/a.png", 0, "gamma", "sample.image")``. Its digest seeds a stream;
nothing global is read or reseeded, so nothing has to be stored to resume (P11).

>>> Streams(7, "epoch", 0, "a.png").py.random() == Streams(7, "epoch", 0, "a.png").py.random()
True
>>> derive(1, "ab", "c") == derive(1, "a", "bc")
False
"""

import hashlib
import importlib
import random
from functools import lru_cache
from operator import index
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy
    import torch

Place = tuple[int | str, ...]


def derive(*place: int | str) -> int:
    """A 63-bit seed for a place: BLAKE2b (RFC 7693) over the length-framed parts, so no two places run together.

    Raises TypeError for a part that is neither text nor a whole number, since its text might differ between processes.
    """
    framed = b"".join([_framed(part) for part in place])
    return int.from_bytes(hashlib.blake2b(framed, digest_size=8).digest(), "little") >> 1


@lru_cache(maxsize=1024)  # most parts of a place are those of the place before
def _framed(part: int | str) -> bytes:
    """A part after its length."""
    text = f"str:{part}" if isinstance(part, str) else f"int:{index(part)}"
    data = text.encode("utf-8", "surrogatepass")
    return len(data).to_bytes(8, "little") + data


class Streams:
    """The random streams of one place: `.py`, `.np` and `.torch` (on the CPU), each built on first use.

    The three are independent of each other. numpy and torch are loaded only by whoever asks for theirs.
    """

    __slots__ = ("_np", "_py", "_torch", "place")

    def __init__(self, *place: int | str) -> None:
        self.place: Place = place
        self._py: random.Random | None = None
        self._np: numpy.random.Generator | None = None
        self._torch: torch.Generator | None = None

    def of(self, *further: int | str) -> "Streams":
        """The streams of a place inside this one."""
        return Streams(*self.place, *further)

    @property
    def py(self) -> random.Random:
        if self._py is None:
            self._py = random.Random(derive(*self.place, "py"))
        return self._py

    @property
    def np(self) -> "numpy.random.Generator":
        if self._np is None:
            self._np = importlib.import_module("numpy").random.default_rng(derive(*self.place, "np"))
        return self._np

    @property
    def torch(self) -> "torch.Generator":
        if self._torch is None:
            self._torch = importlib.import_module("torch").Generator()
            self._torch.manual_seed(derive(*self.place, "torch"))
        return self._torch
