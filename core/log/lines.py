"""Log lines: structlog to the terminal and, as JSON, to the run's log.jsonl. The standard library's loggers join in."""

import logging
import sys
from pathlib import Path
from typing import Any

import structlog

from .file import LogFile
from .redaction import BY_LOOKS, Redactor

DATA_LOG = "signalbox.data"
"""Of what concerns single pictures on their way to the step; what a scan finds is below it, the same on every rank."""
_SHARED: tuple[Any, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.PositionalArgumentsFormatter(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


def configure_logging(level: str, redactor: Redactor = BY_LOOKS, *, rank: int = 0) -> None:
    """Lines of at least `level` on the terminal, without secrets. Called once, by the command line.

    Other ranks than the main one show errors, and what concerns their own part of the data.
    """
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    terminal = logging.StreamHandler()
    terminal.setLevel(level.upper())
    if rank:
        terminal.addFilter(lambda line: line.levelno >= (logging.WARNING if line.name == DATA_LOG else logging.ERROR))
    terminal.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _drop("timestamp", "logger"),
                *([_of_rank(rank)] if rank else []),
                _redact_event(redactor),
                structlog.dev.ConsoleRenderer(
                    pad_event_to=0, colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
                ),  # the formatter of rich shows local variables, and breaks lines within a secret
                _redact_line(redactor),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [terminal]
    root.setLevel(logging.INFO)
    logging.getLogger("signalbox").setLevel(logging.DEBUG)
    for noisy in ("httpx", "httpx2", "urllib3", "filelock", "PIL"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def log_to_file(path: Path, redactor: Redactor = BY_LOOKS) -> logging.Handler:
    """Every line from debug on as a JSON object in `path`, without secrets; remove and close the handler when the run is over."""
    handler = LogFile(path)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _redact_event(redactor),
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.getLogger().addHandler(handler)
    logging.getLogger("signalbox").setLevel(logging.DEBUG)
    return handler


def _of_rank(rank: int) -> Any:
    def name_rank(logger: Any, name: str, event: dict[str, Any]) -> dict[str, Any]:
        return event | {"event": f"rank {rank}: {event['event']}"}

    return name_rank


def _drop(*keys: str) -> Any:
    def drop(logger: Any, name: str, event: dict[str, Any]) -> dict[str, Any]:
        for key in keys:
            event.pop(key, None)
        return event

    return drop


def _redact_event(redactor: Redactor) -> Any:
    """Value by value, so that a line of JSON stays one. What the terminal's renderer makes of exc_info is left to `_redact_line`."""

    def redact(logger: Any, name: str, event: dict[str, Any]) -> dict[str, Any]:
        failure = {key: event.pop(key) for key in ("exc_info",) if key in event}
        return redactor.tree(event) | failure

    return redact


def _redact_line(redactor: Redactor) -> Any:
    """A traceback is text only when the line is made."""

    def redact(logger: Any, name: str, line: str) -> str:
        return redactor.text(line)

    return redact
