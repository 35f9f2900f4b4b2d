"""Every firing and every call as a JSON line, for `--trace-events`."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

from .signals import Handler, Receiver

log = logging.getLogger("signalbox.events")


class Trace:
    """A file of lines with signal, handler and seconds; the handler is empty where a line says that a signal fired.

    Each line is one write at the end of the file, so that several loader workers may share it.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def close(self) -> None:
        self._file.close()

    def watcher(self, signal: str, *, passes_on: bool) -> Receiver:
        """A first receiver that notes each firing; `passes_on`: it hands a value to the next handler."""

        def fired(value: Any, context: Any = None) -> Any:
            self._record(signal, "", 0.0)
            return value if passes_on else None

        return fired

    def traced(self, handler: Handler) -> Receiver:
        """The handler's call, with a line for each."""
        call: Callable[..., Any] = handler.call

        def traced_call(*arguments: Any) -> Any:
            started = perf_counter()
            try:
                return call(*arguments)
            finally:
                self._record(handler.signal, f"{handler.plugin}:{handler.label}", perf_counter() - started)

        return traced_call

    def _record(self, signal: str, handler: str, seconds: float) -> None:
        """A trace that cannot be written ends; it is never the handler's failure."""
        if self._file.closed:
            return
        line = json.dumps({"signal": signal, "handler": handler, "seconds": round(seconds, 6)}) + "\n"
        try:
            self._file.write(line.encode())
        except OSError as error:
            log.error("the trace of events ends here, since %s cannot be written: %s", self._file.name, error)
            self._file.close()
