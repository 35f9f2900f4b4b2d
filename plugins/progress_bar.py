"""How far the run is: a bar on a terminal, a line now and then anywhere else."""

import logging
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from pydantic import Field

from events import Plugin, PluginSettings, on
from events.payloads import PreviewEnd, Progress, RunClose

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

NOTABLE, LARGE = 0.1, 0.3
"""Shares of the time spent waiting for data from which on it is shown in yellow, and in red."""
ESSENTIAL = 4
"""Parts up to this rank are kept before the bar is."""
LEAST_BAR, MOST_BAR = 10, 40
"""Its columns."""
GAP = "  "


class ProgressBar(Plugin):
    """Step, loss, images a second, time left, how long training waited for data, and the last preview, on the error stream.

    On a terminal it is one line that fits, and what is logged or printed appears above it; where room is short, the
    preview, images a second and a small share of waiting go first. Anywhere else, in a log file or with `TERM=dumb`, it
    is a plain line with the time of day now and then. `NO_COLOR=1` takes the colours out.
    """

    class Settings(PluginSettings):
        seconds: float = Field(10.0, ge=0, description="between two lines where there is no terminal")

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        super().__init__(settings, name=name)
        self._terminal: Console | None = None
        self._live: Live | None = None
        self._shown = ExitStack()
        self._last: Progress | None = None
        self._printed: Progress | None = None
        self._printed_at = float("-inf")
        self._preview: Path | None = None
        """The last grid."""
        self._told_preview: Path | None = None
        """The last that is in a line."""

    @on("progress")
    def show(self, event: Progress) -> None:
        if self._last is None:
            self._terminal = _terminal()
        self._last = event
        if event.step >= event.steps:
            self._finish()
        elif self._terminal is not None:
            self._draw(self._terminal, event)
        elif monotonic() - self._printed_at >= self.settings.seconds:
            self._print(event)

    @on("preview.end", priority=95)
    def remember(self, event: PreviewEnd) -> None:
        if event.paths:
            self._preview = event.folder / "grid.png"

    @on("run.close")
    def end(self, event: RunClose) -> None:
        self._finish()

    def _draw(self, terminal: "Console", event: Progress) -> None:
        """It is redrawn by whoever moves it, by no thread."""
        from rich.live import Live

        if self._live is None:
            stream = sys.stderr
            self._live = Live(
                console=terminal, auto_refresh=False, transient=True, redirect_stdout=sys.stdout.isatty()
            )  # fmt: skip
            self._shown.enter_context(self._live)  # from here on sys.stderr writes above the bar
            self._shown.enter_context(_log_lines_to(sys.stderr, stream))
        self._live.update(row(event, self._preview, terminal.width - 1, terminal.encoding), refresh=True)

    def _finish(self) -> None:
        """Clear the bar and leave the last numbers as a line."""
        self._shown.close()
        self._live = None
        if self._last is not None and self._last is not self._printed:
            self._print(self._last)

    def _print(self, event: Progress) -> None:
        self._printed, self._printed_at = event, monotonic()
        said = [time.strftime("%H:%M:%S"), event.run.name, *(part.text for part in parts_of(event))]
        if self._preview != self._told_preview:
            self._told_preview = self._preview
            said.append(f"preview {_from_here(self._preview)}")
        print(GAP.join(said), file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class Part:
    """Some words of the line."""

    text: str
    rank: int
    """Of what does not fit, the highest goes first."""
    style: str = ""


def parts_of(event: Progress) -> list[Part]:
    """
    >>> from events.testing import progress
    >>> [part.text for part in parts_of(progress(step=10, steps=100, loss=0.25, eta_seconds=45, data_fraction=0.02))]
    ['step 10/100', 'loss 0.2500', '8.0 images/s', '0:00:45 left', 'data-bound 2 %']
    """
    waited = event.data_fraction
    style = "red" if waited >= LARGE else "yellow" if waited >= NOTABLE else ""
    return [
        Part(f"step {event.step}/{event.steps}", 0, "bold"),
        *([] if event.loss is None else [Part(f"loss {event.loss:.4f}", 2)]),
        Part(f"{event.images_per_second:.1f} images/s", 5),
        Part(f"{_in_hours(event.eta_seconds)} left", 1),
        Part(f"data-bound {100 * waited:.0f} %", 3 if waited >= NOTABLE else 6, style),
    ]


def row(event: Progress, preview: Path | None, columns: int, encoding: str) -> "Text":
    """One line with a bar, of at most so many columns."""
    from rich.text import Text

    parts = [Part(event.run.name, 4), *parts_of(event)]
    shown = [*parts, *_preview_part(preview, short=False)]
    if columns_of(shown) + len(GAP) + LEAST_BAR > columns:
        shown = fitting([*parts, *_preview_part(preview, short=True)], columns - len(GAP) - LEAST_BAR)
    has_bar = all(part in shown for part in parts if part.rank <= ESSENTIAL)
    shown = shown if has_bar else fitting(parts, columns)
    texts = [Text(part.text, style=part.style) for part in shown]
    if has_bar:
        length = min(columns - columns_of(shown) - len(GAP), MOST_BAR)
        texts.insert(int(shown[0] is parts[0]), _bar(event.step / event.steps, length, encoding))
    line = Text(GAP).join(texts)
    line.truncate(columns)
    return line


def fitting(parts: Sequence[Part], columns: int) -> list[Part]:
    """The parts that fit, in their order; one stays in any case."""
    kept = list(parts)
    while len(kept) > 1 and columns_of(kept) > columns:
        kept.remove(max(kept, key=lambda part: part.rank))
    return kept


def columns_of(parts: Sequence[Part]) -> int:
    """That they take, side by side with gaps."""
    from rich.cells import cell_len

    return sum(cell_len(part.text) for part in parts) + len(GAP) * (len(parts) - 1)


def _in_hours(seconds: float) -> str:
    """
    >>> _in_hours(3725), _in_hours(200000)
    ('1:02:05', '2 d 7 h')
    """
    days, rest = divmod(round(seconds), 86400)
    return f"{days} d {rest // 3600} h" if days else str(timedelta(seconds=rest))


def _preview_part(preview: Path | None, *, short: bool) -> list[Part]:
    """Linked to the file, where the terminal can follow links."""
    if preview is None:
        return []
    text = f"preview {preview.parent.name.removeprefix('step-').lstrip('0') or '0'}" if short else _from_here(preview)
    return [Part(text, 7, f"cyan link {preview.absolute().as_uri()}")]


def _bar(share: float, length: int, encoding: str) -> "Text":
    from rich.text import Text

    dash = "━" if encoding.startswith("utf") else "-"
    done = round(share * length)
    rest = dash * (length - done) if dash == "━" else " " * (length - done)
    return Text.assemble((dash * done, "green"), (rest, "bright_black"))


def _terminal() -> "Console | None":
    """The error stream, or None where that is no terminal on which lines can be drawn anew."""
    from rich.console import Console

    console = Console(stderr=True)
    return console if console.is_interactive else None


def _from_here(path: Path | None) -> str:
    """A path as it is typed in the current folder."""
    if path is not None and path.is_absolute():
        with suppress(ValueError):
            return str(path.relative_to(Path.cwd()))
    return str(path)


@contextmanager
def _log_lines_to(stream: Any, terminal: Any) -> Generator[None, None, None]:
    """Log handlers hold on to the stream they were made with; let those of the terminal write elsewhere, and back."""
    handlers = [
        handler
        for handler in logging.getLogger().handlers
        if isinstance(handler, logging.StreamHandler) and handler.stream is terminal
    ]
    for handler in handlers:
        handler.setStream(stream)
    try:
        yield
    finally:
        for handler in handlers:
            handler.setStream(terminal)
