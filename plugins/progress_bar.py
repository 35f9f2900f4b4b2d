"""How far the run is: a bar on a terminal, a line now and then anywhere else."""

import logging
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any

from pydantic import Field

from events import Plugin, PluginSettings, on
from events.payloads import Progress, RunClose

if TYPE_CHECKING:
    import rich.progress


class ProgressBar(Plugin):
    """Step, loss, images a second, time left and how long training waited for data, on the error stream.

    While the bar is shown, what is logged or printed to the terminal appears above it.
    """

    class Settings(PluginSettings):
        seconds: float = Field(10.0, ge=0, description="between two lines where there is no terminal")

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        super().__init__(settings, name=name)
        self._bar: rich.progress.Progress | None = None
        self._shown = ExitStack()
        self._last: Progress | None = None
        self._printed: Progress | None = None
        self._printed_at = float("-inf")

    @on("progress")
    def show(self, event: Progress) -> None:
        if self._last is None:
            self._bar = _bar()
        self._last = event
        if event.step >= event.steps:
            self._finish()
        elif self._bar is not None:
            self._move(self._bar, event)
        elif monotonic() - self._printed_at >= self.settings.seconds:
            self._print(event)

    @on("run.close")
    def end(self, event: RunClose) -> None:
        self._finish()

    def _move(self, bar: "rich.progress.Progress", event: Progress) -> None:
        if not bar.tasks:
            terminal = sys.stderr
            bar.add_task(event.run.name, total=event.steps, completed=event.step, says=_in_words(event))
            self._shown.enter_context(bar)  # from here on sys.stderr writes above the bar
            self._shown.enter_context(_log_lines_to(sys.stderr, terminal))
        bar.update(bar.task_ids[0], completed=event.step, says=_in_words(event), refresh=True)

    def _finish(self) -> None:
        """Clear the bar and leave the last numbers as a line."""
        self._shown.close()
        if self._last is not None and self._last is not self._printed:
            self._print(self._last)

    def _print(self, event: Progress) -> None:
        self._printed, self._printed_at = event, monotonic()
        print(f"{event.run.name}  {_in_words(event)}", file=sys.stderr, flush=True)


def _bar() -> "rich.progress.Progress | None":
    """A bar on the error stream, or None where that is no terminal. It is redrawn by whoever moves it, by no thread."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    if not console.is_interactive:
        return None
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[says]}", markup=False),
    )
    return Bar(
        *columns, console=console, auto_refresh=False, transient=True, expand=True,
        redirect_stdout=sys.stdout.isatty(),
    )  # fmt: skip


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


def _in_words(event: Progress) -> str:
    """
    >>> from events.testing import progress
    >>> _in_words(progress(step=10, steps=100, loss=0.25, images_per_second=8, eta_seconds=45, data_fraction=0.02))
    'step 10/100  loss 0.2500  8.0 images/s  0:00:45 left  data-bound 2 %'
    """
    loss = "" if event.loss is None else f"loss {event.loss:.4f}  "
    left = timedelta(seconds=round(event.eta_seconds))
    return (
        f"step {event.step}/{event.steps}  {loss}{event.images_per_second:.1f} images/s  {left} left"
        f"  data-bound {100 * event.data_fraction:.0f} %"
    )
