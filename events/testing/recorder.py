"""What signals have carried while a test went on, and what plugins have asked of the run."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

from ..control import Control, Request
from ..spec import Notification, SignalSpec

_NUMBERS = count()
"""In which requests are made, whichever control they are made to."""


@dataclass(frozen=True, slots=True)
class Fired:
    """One firing of one signal."""

    signal: str
    carried: Any
    """The event; of a transform the value and of a build signal the part that the last plugin returned."""


class Recorder:
    """Notes each firing of the signals that `Harness.record` was given, in order, those that plugins emit too."""

    def __init__(self) -> None:
        self.fired: list[Fired] = []

    @property
    def signals(self) -> list[str]:
        """The names of what has fired."""
        return [fired.signal for fired in self.fired]

    @property
    def events(self) -> list[Any]:
        """What was carried, as `Fired.carried` says."""
        return [fired.carried for fired in self.fired]

    def receiver(self, spec: SignalSpec) -> Callable[..., Any]:
        """What is connected behind all plugins; a value or a part it hands on as it is."""

        def note(carried: Any, context: Any = None) -> Any:
            self.fired.append(Fired(spec.name, carried))
            return None if isinstance(spec, Notification) else carried

        return note


class NotedControl(Control):
    """A run's control that also keeps what it was asked, for good."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[tuple[int, Request]] = []
        """(number, request); the numbers count over all controls."""

    @property
    def asked(self) -> list[Request]:
        """Every request, oldest first, also those that were taken."""
        return [request for _, request in self.noted]

    def _ask(self, request: Request) -> None:
        super()._ask(request)
        self.noted.append((next(_NUMBERS), request))
