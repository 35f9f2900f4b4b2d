"""What a handler may ask of the run. A request is only noted; the loop acts on it at the next step boundary.

Any thread may ask, so an async handler may too. Who owns a setting validates its value before the request is taken,
and the answer is announced as `control.applied`.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from .errors import ControlError

RequestKind = Literal["stop", "save", "preview", "skip_batch", "set"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One wish of one asker."""

    kind: RequestKind
    asker: str
    reason: str = ""
    key: str = ""
    value: object = None


class Control:
    """The requests of a run that nobody has acted on yet."""

    def __init__(self, settings: Mapping[str, Callable[[object], object]] | None = None) -> None:
        """`settings` maps each key that may be set to its owner's validation, which returns the value to use."""
        self._settings = dict(settings or {})
        self._requests: list[Request] = []
        self._lock = threading.Lock()

    def stop(self, reason: str, *, asker: str = "") -> None:
        """End after this step, with a checkpoint."""
        self._ask(Request(kind="stop", reason=reason, asker=asker))

    def save(self, *, reason: str = "asked", asker: str = "") -> None:
        """Write a checkpoint at the next boundary."""
        self._ask(Request(kind="save", reason=reason, asker=asker))

    def preview(self, *, reason: str = "asked", asker: str = "") -> None:
        """Render the preview prompts at the next boundary."""
        self._ask(Request(kind="preview", reason=reason, asker=asker))

    def skip_batch(self, reason: str, *, asker: str = "") -> None:
        """Leave out the step that is about to be taken; only in `step.start`."""
        self._ask(Request(kind="skip_batch", reason=reason, asker=asker))

    def set(self, key: str, value: object, *, asker: str = "") -> None:
        """Change a setting of the running run, such as ``set("train.accumulate", 4)``.

        Raises ControlError for a key that cannot be set while running, and for a value its owner refuses.
        """
        if key not in self._settings:
            near = get_close_matches(key, self._settings, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"these can: {', '.join(sorted(self._settings))}"
            raise ControlError(f"{key} cannot be set while a run is going on; {hint}")
        self._ask(Request(kind="set", key=key, value=self._settings[key](value), asker=asker))

    def take(self, *kinds: RequestKind) -> list[Request]:
        """Remove and return the requests of these kinds, oldest first. For the loop."""
        with self._lock:
            taken = [request for request in self._requests if request.kind in kinds]
            self._requests = [request for request in self._requests if request.kind not in kinds]
        return taken

    def _ask(self, request: Request) -> None:
        with self._lock:
            self._requests.append(request)
