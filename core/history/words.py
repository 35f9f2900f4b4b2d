"""Times, sizes and states of runs in words."""

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from .reading import RunHistory

MINUTE, HOUR, DAY = 60, 3600, 86400
ONCE = ("start-up", "caching")
"""Kinds of time that do not grow with the steps."""


def duration(seconds: float) -> str:
    """In the two largest units.

    >>> duration(4.2), duration(75), duration(3 * 3600 + 300), duration(100_000)
    ('4 s', '1 min 15 s', '3 h 05 min', '1 d 3 h')
    """
    whole = round(seconds)
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE:02} s" if whole < 10 * MINUTE else f"{round(whole / MINUTE)} min"
    if whole < DAY:
        return f"{whole // HOUR} h {whole % HOUR // MINUTE:02} min"
    return f"{whole // DAY} d {whole % DAY // HOUR} h"


def size(count: float) -> str:
    """
    >>> size(900), size(12_345_678), size(7.1e9)
    ('0.9 kB', '12.3 MB', '7.1 GB')
    """
    for unit, scale in (("kB", 1e3), ("MB", 1e6), ("GB", 1e9)):
        if count < 1000 * scale:
            return f"{count / scale:,.1f} {unit}"
    return f"{count / 1e12:,.1f} TB"


def moment(text: str) -> datetime | None:
    """A time as records and logs have it; None for what is none."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def in_utc(text: str) -> str:
    """For pages, which are read anywhere.

    >>> in_utc("2026-07-03T12:34:56+02:00"), in_utc("")
    ('2026-07-03 10:34 UTC', '')
    """
    found = moment(text)
    return f"{found.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if found else ""


def seconds_between(began: str, ended: str) -> float | None:
    """Between two such times; None where one is not known."""
    first, last = moment(began), moment(ended)
    return (last - first).total_seconds() if first and last else None


def steps_text(step: int, steps: int) -> str:
    """
    >>> steps_text(60, 1500), steps_text(60, 0)
    ('60 of 1,500', '60')
    """
    return f"{step:,} of {steps:,}" if steps else f"{step:,}"


def ending(history: RunHistory) -> str:
    """How a run ended, or why it has not, in a sentence without its full stop."""
    session, at = history.session, f"at step {history.step:,}"
    if history.state == "running":
        return "It is running" + (f", as process {session.pid}" if session else "")
    if history.state == "interrupted":
        return f"Its process was gone {at} without a word, as one that was killed is"
    if session is None or history.state == "unknown":
        return "Nothing tells how it ended: it has no record, as runs of older versions have none"
    if history.state == "failed":
        return f"It failed in {session.stage or 'its course'} {at}, exit code {session.exit_code}"
    if history.state == "stopped":
        return f"It was stopped {at}: {session.reason or session.error or 'nobody said why'}"
    return f"It is complete {at}"


def left_to_do(history: RunHistory) -> str:
    """The steps that are left, and how long they take at the pace of the newest session; empty where nothing is known."""
    left, session = history.steps - history.step, history.session
    if left <= 0:
        return ""
    taken = session.step - session.first_step if session else 0
    if session is None or taken <= 0:
        return f"; {left:,} steps are left"
    pace = sum(seconds for kind, seconds in session.seconds.items() if kind not in ONCE) / taken
    return f"; {left:,} steps are left, about {duration(left * pace)}" if pace else f"; {left:,} steps are left"


def command_line(words: Sequence[str], directory: str = "") -> str:
    """What is typed; after going to `directory`, where that is another folder than this one."""
    typed = shlex.join(words)
    return f"cd {shlex.quote(directory)} && {typed}" if directory and Path(directory) != Path.cwd() else typed
