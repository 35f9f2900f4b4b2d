"""What becomes of a handler's failure: raised with its name on it, logged, or the handler taken out."""

import logging
from collections import Counter
from collections.abc import Callable

from .disk import OncePerMinute, is_disk_trouble
from .errors import HandlerHung, PluginError
from .signals import Failures, Handler
from .spec import Notification, SignalSpec

log = logging.getLogger("signalbox.events")
FAILURES_UNTIL_DISABLED = 3
NAMED_SAMPLES = 8


class FailurePolicy(Failures):
    """Transforms and builds raise; notifications follow the plugin's `on_error`. Nothing passes without a line."""

    def __init__(self, disable: Callable[[Handler], None]) -> None:
        self._disable = disable
        self._failures: Counter[tuple[str, str, str]] = Counter()
        self._told: set[tuple[str, type[BaseException]]] = set()
        self._disk = OncePerMinute()

    def handle(self, handler: Handler | None, spec: SignalSpec, error: BaseException, about: object) -> None:
        """Raise PluginError, or return when the run may go on with the next handler.

        A KeyboardInterrupt is the user's and passes; so does what was named where it happened, such as in a worker,
        and what a bare receiver raises. Signals that call every handler, come what may, log these too. A disk that is full
        or fails is no fault of a handler that looks on: the run goes on without what it would have written. A collective
        one raises whatever goes wrong, since other ranks may be waiting for it.
        """
        if isinstance(error, KeyboardInterrupt) or _is_of_another(error, handler):
            raise error
        goes_on = isinstance(spec, Notification) and spec.on_failure == "continue"
        if (handler is None or isinstance(error, PluginError)) and not goes_on:
            raise error
        if handler is not None and not handler.is_collective and _may_go_unwritten(spec, error):
            self._tell_disk_trouble(handler, error)
            return
        who = (
            f"plugin {handler.plugin} failed in {handler.label} ({handler.source})" if handler else "a receiver failed"
        )
        who += f" at {spec.name}"
        said = who + _place_of(about, with_samples=not isinstance(spec, Notification))
        if said not in getattr(error, "__notes__", ()):
            error.add_note(said)
        if handler is not None and _must_raise(handler, spec):
            raise PluginError(
                f"{said}: {type(error).__name__}: {error}", plugin=handler.plugin, signal=spec.name
            ) from error
        self._log(who, said, error)
        if handler is not None and handler.on_error == "disable":
            self._count(handler)

    def _tell_disk_trouble(self, handler: Handler, error: BaseException) -> None:
        """Once a minute for each plugin."""
        if self._disk.is_due(handler.plugin):
            log.warning(
                "plugin %s cannot write in %s at %s: %s; training goes on%s", handler.plugin, handler.label,
                handler.signal, error, self._disk.times(handler.plugin),
            )  # fmt: skip

    def _log(self, who: str, said: str, error: BaseException) -> None:
        """A line for each failure, with the traceback when it is the handler's first of its kind."""
        kind = (who, type(error))
        log.error("%s: %s: %s", said, type(error).__name__, error, exc_info=None if kind in self._told else error)
        self._told.add(kind)

    def _count(self, handler: Handler) -> None:
        key = (handler.plugin, handler.signal, handler.label)
        self._failures[key] += 1
        if self._failures[key] == FAILURES_UNTIL_DISABLED:
            self._disable(handler)
            log.error(
                "plugin %s: %s is disabled after %d failures", handler.plugin, handler.label, FAILURES_UNTIL_DISABLED
            )


def _is_of_another(error: BaseException, handler: Handler | None) -> bool:
    """Whether a handler further out was broken off while this one ran."""
    if not isinstance(error, HandlerHung):
        return False
    return handler is None or not error.is_of(handler.plugin, handler.signal, handler.label)


def _may_go_unwritten(spec: SignalSpec, error: BaseException) -> bool:
    return isinstance(spec, Notification) and spec.on_failure != "raise" and is_disk_trouble(error)


def _must_raise(handler: Handler, spec: SignalSpec) -> bool:
    if isinstance(spec, Notification) and spec.on_failure != "raise":
        return spec.on_failure == "policy" and handler.on_error == "raise"
    return True


def _place_of(about: object, *, with_samples: bool) -> str:
    """Where in the run it happened, from whichever of these fields the payload has."""
    names = ("step", "epoch", "sample_id", "path", "module")
    found = [f"{name} {value}" for name in names if (value := getattr(about, name, None)) is not None]
    samples = getattr(about, "sample_ids", ()) if with_samples else ()
    if samples:
        more = f" and {len(samples) - NAMED_SAMPLES} more" if len(samples) > NAMED_SAMPLES else ""
        found.append(f"samples {', '.join(samples[:NAMED_SAMPLES])}{more}")
    return f" ({', '.join(found)})" if found else ""
