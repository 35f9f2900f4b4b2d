"""What becomes of a handler's failure: raised with its name on it, logged, or the handler taken out."""

import logging
from collections import Counter
from collections.abc import Callable

from .errors import PluginError
from .signals import Failures, Handler
from .spec import Notification, SignalSpec

log = logging.getLogger("signalbox.events")
FAILURES_UNTIL_DISABLED = 3


class FailurePolicy(Failures):
    """Transforms and builds raise; notifications follow the plugin's `on_error`. Nothing passes without a line."""

    def __init__(self, disable: Callable[[Handler], None]) -> None:
        self._disable = disable
        self._failures: Counter[tuple[str, str, str]] = Counter()

    def handle(self, handler: Handler | None, spec: SignalSpec, error: BaseException, about: object) -> None:
        """Raise PluginError, or return when the run may go on with the next handler."""
        if handler is None or isinstance(error, KeyboardInterrupt):
            raise error
        if isinstance(error, PluginError):  # it was named where it happened, such as in a worker
            raise error
        said = f"plugin {handler.plugin} failed in {handler.label} ({handler.source}) at {spec.name}{_place_of(about)}"
        error.add_note(said)
        if self._must_raise(handler, spec):
            raise PluginError(
                f"{said}: {type(error).__name__}: {error}", plugin=handler.plugin, signal=spec.name
            ) from error
        log.error("%s: %s", said, error, exc_info=error)
        self._count(handler)

    def _must_raise(self, handler: Handler, spec: SignalSpec) -> bool:
        if not isinstance(spec, Notification):
            return True
        if spec.on_failure != "policy":
            return spec.on_failure == "raise"
        return handler.on_error == "raise"

    def _count(self, handler: Handler) -> None:
        key = (handler.plugin, handler.signal, handler.label)
        self._failures[key] += 1
        if handler.on_error == "disable" and self._failures[key] >= FAILURES_UNTIL_DISABLED:
            self._disable(handler)
            log.error(
                "plugin %s: %s is disabled after %d failures", handler.plugin, handler.label, FAILURES_UNTIL_DISABLED
            )


def _place_of(about: object) -> str:
    """Where in the run it happened, from whichever of these fields the payload has."""
    names = ("step", "epoch", "sample_id", "path")
    found = [f"{name} {value}" for name in names if (value := getattr(about, name, None)) is not None]
    return f" ({', '.join(found)})" if found else ""
