"""What handlers on any rank ask of the run, taken up by all ranks at the same boundary.

Ranks meet where they have to wait for each other anyway: when numbers are told, after a validation, between epochs, and
where one of them has rung the bell. Between these a request waits; a step in which nobody asks sends nothing.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

from events.control import Control, Request, RequestKind

from .crew import Crew

KINDS: tuple[RequestKind, ...] = ("stop", "save", "preview", "evaluate", "export", "set")
SKIP: RequestKind = "skip_batch"
Exchange = Callable[[Any], Sequence[Any]]
"""This rank's value for those of all ranks."""


class Agreement:
    """Of one run."""

    def __init__(self, crew: Crew, control: Control) -> None:
        self._crew = crew
        self._control = control

    def at_boundary(self, *, is_meeting: bool) -> list[Request]:
        """What is taken up at this step boundary, where ranks meet anyway or because one of them has called.

        Alone: whatever was asked. Never waits for the device. A wish to skip a step that has come too late for it is this
        rank's own, and no more than told.
        """
        if not self._crew.are_several:
            return self._control.take(*KINDS, SKIP)
        if self._crew.is_called() or is_meeting:
            return self._agreed(KINDS, self._crew.gather) + self._control.take(SKIP)
        if self._control.is_asked(*KINDS):
            self._crew.call()
        return self._control.take(SKIP)

    def together(self, what: str) -> list[Request]:
        """What any rank has asked for, the same on each, where all come by after work that may have taken one of them long."""
        return self._agreed(KINDS, lambda own: self._crew.outcomes(f"wishes after {what}", own)) + self._control.take(
            SKIP
        )

    def skips(self) -> list[Request]:
        """The wishes to skip this step, of all ranks. A collective, where any rank handles `step.start`."""
        return self._agreed((SKIP,), self._crew.gather)

    def _agreed(self, kinds: Sequence[RequestKind], exchange: Exchange) -> list[Request]:
        own = self._control.take(*kinds)
        if not self._crew.are_several:
            return own
        found = exchange([asdict(request) for request in own])
        return merge([Request(**table) for table in asked] for asked in found)


def merge(ranks: Iterable[Sequence[Request]]) -> list[Request]:
    """By rank; what a handler on every rank, or a signal to every process, asks once on each is one request.

    >>> save, stop = Request(kind="save", asker="a"), Request(kind="stop", asker="b")
    >>> [one.kind for one in merge([[save], [save, stop], [stop, save]])]
    ['save', 'stop']
    """
    merged: list[Request] = []
    for own in ranks:
        missing = Counter(own) - Counter(merged)
        for request in own:
            if missing[request]:
                missing[request] -= 1
                merged.append(request)
    return merged
