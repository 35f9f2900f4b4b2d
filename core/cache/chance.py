"""Which plugin before an encoder leaves its result to chance, found by watching a few samples being made."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy
import torch

from events.payloads import SampleKey

from ..data.draws import CROP
from ..data.maker import SampleMaker

WATCHED = 8
"""Samples that are made to see what draws."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What the transforms before an encoder do beside their work."""

    drawn: frozenset[str]
    """Plugins that draw random numbers and do not say `variations`."""
    read: frozenset[str]
    """What they read of a sample beyond its picture."""
    touches_global: bool
    """Whether any of them draws from a global random generator."""


def watch(maker: SampleMaker, keys: Iterable[SampleKey], make: Callable[[SampleKey], object]) -> Watched:
    """Make these samples and see; a file that cannot be read shows nothing."""
    maker.drawn.clear()
    maker.read.clear()
    drawn: set[str] = set()
    read: set[str] = set()
    before = _global_state()
    for key in keys:
        make(key)
        drawn |= maker.drawn - {CROP}
        read |= maker.read
    return Watched(drawn=frozenset(drawn), read=frozenset(read), touches_global=_global_state() != before)


def some_keys(maker: SampleMaker) -> list[SampleKey]:
    """A few places over the whole of a data set."""
    count = len(maker.items)
    return [SampleKey(0, item, 0) for item in sorted({number * count // WATCHED for number in range(WATCHED)})]


def _global_state() -> tuple[object, ...]:
    """The states of the generators that a plugin should leave alone."""
    legacy = numpy.random.get_state(legacy=False)  # looked at, never drawn from
    assert isinstance(legacy, dict)
    return random.getstate(), legacy["state"]["key"].tobytes(), torch.get_rng_state().numpy().tobytes()
