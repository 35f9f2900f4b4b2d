"""What a handler may ask of the run. A request is only noted; the loop acts on it at the next step boundary.

Any thread may ask, so an async handler may too. A key or value that cannot be is refused to the asker; the rest is
announced as `control.applied` when it is taken up.

Of several processes each has a control of its own, and a handler on any of them may ask: all take the request up at the
same boundary, the next one where they meet, at most two after the one at which the others have heard of it. What is
asked for once on each rank in the same words is one request.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from .errors import ControlError

SETTABLE: Mapping[str, int] = {
    "train.accumulate": 1,
    "checkpoint.every_steps": 0,
    "preview.every_steps": 0,
    "validation.every_steps": 0,
}
"""The settings that may be changed while a run goes on, each with its least value."""
RequestKind = Literal["stop", "save", "preview", "evaluate", "export", "skip_batch", "set"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One wish of one asker."""

    kind: RequestKind
    asker: str
    reason: str = ""
    key: str = ""
    value: int | None = None


class Control:
    """The requests of a run that nobody has acted on yet."""

    def __init__(self) -> None:
        self._requests: list[Request] = []
        self._lock = threading.RLock()
        """A signal may ask while the thread that it interrupts looks at what is asked for."""

    def stop(self, reason: str, *, asker: str = "") -> None:
        """End after this step, with a checkpoint."""
        self._ask(Request(kind="stop", reason=reason, asker=asker))

    def save(self, *, reason: str = "asked", asker: str = "") -> None:
        """Write a checkpoint at the next boundary."""
        self._ask(Request(kind="save", reason=reason, asker=asker))

    def preview(self, *, reason: str = "asked", asker: str = "") -> None:
        """Render the preview prompts at the next boundary."""
        self._ask(Request(kind="preview", reason=reason, asker=asker))

    def evaluate(self, *, reason: str = "asked", asker: str = "") -> None:
        """Measure the loss on the validation sets at the next boundary."""
        self._ask(Request(kind="evaluate", reason=reason, asker=asker))

    def export(self, *, reason: str = "asked", asker: str = "") -> None:
        """Export the model at the next boundary."""
        self._ask(Request(kind="export", reason=reason, asker=asker))

    def skip_batch(self, reason: str, *, asker: str = "") -> None:
        """Leave out the step that is about to be taken; only in `step.start`."""
        self._ask(Request(kind="skip_batch", reason=reason, asker=asker))

    def set(self, key: str, value: object, *, asker: str = "") -> None:
        """Change a setting of the running run, such as ``set("train.accumulate", 4)``; a new epoch begins with it.

        Raises ControlError for a key that cannot be set while running, and for a value it cannot have.
        """
        if key not in SETTABLE:
            near = get_close_matches(key, SETTABLE, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"these can: {', '.join(sorted(SETTABLE))}"
            raise ControlError(f"{key} cannot be set while a run is going on; {hint}")
        least = SETTABLE[key]
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ControlError(f"{key}: expected a whole number of at least {least}, got {value!r}")
        self._ask(Request(kind="set", key=key, value=value, asker=asker))

    def take(self, *kinds: RequestKind) -> list[Request]:
        """Remove and return the requests of these kinds, oldest first. For the loop."""
        with self._lock:
            waiting, self._requests = self._requests, []
            taken = [request for request in waiting if request.kind in kinds]
            self._requests[:0] = [request for request in waiting if request.kind not in kinds]
        return taken

    def is_asked(self, *kinds: RequestKind) -> bool:
        """Whether a request of these kinds waits; it stays where it is."""
        with self._lock:
            return any(request.kind in kinds for request in self._requests)

    def _ask(self, request: Request) -> None:
        with self._lock:
            self._requests.append(request)
