"""Guards: they look at the process before and after some of a handler's calls, and say what it left behind."""

import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from .signals import Handler, Receiver

log = logging.getLogger("signalbox.events")
EVERY = 64
"""Of a handler's calls the 1st, 2nd, 4th, 8th, ... and every 64th are looked at; all, once one was not in order."""


class Guard(Protocol):
    """Watches one thing at one handler."""

    def before(self) -> Any:
        """What `after` needs to see what the call has done."""

    def after(self, token: Any) -> str | None:
        """What the call did and must not, in words that follow the handler's name; puts back what can be put back."""


GuardKind = Callable[[], Guard]


def guarded(handler: Handler, kinds: Sequence[GuardKind], undeclared: Sequence[GuardKind] = ()) -> Receiver:
    """The handler's call with guards of its own; each complaint is told once. An async handler is left as it is.

    `undeclared` are for handlers that do not say they are collective.
    """
    if handler.is_async:
        return handler.call
    wanted = (*kinds, *(() if handler.is_collective else undeclared))
    call, calls, guards, told = handler.call, 0, [kind() for kind in wanted], set[str]()

    def guarded_call(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls & (calls - 1) and calls % EVERY and not told:
            return call(*arguments)
        tokens = [guard.before() for guard in guards]
        try:
            return call(*arguments)
        finally:
            for guard, token in zip(reversed(guards), reversed(tokens), strict=True):
                complaint = guard.after(token)
                if complaint is not None and complaint not in told:
                    told.add(complaint)
                    log.warning("plugin %s: %s at %s %s", handler.plugin, handler.label, handler.signal, complaint)

    return guarded_call
