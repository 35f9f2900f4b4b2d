"""Numbers of the run as a table, for a spreadsheet."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from core.log.growing_file import append, rewrite
from events import Plugin, PluginSettings, on
from events.payloads import CheckpointLoaded, MetricsReady, RunStart, ValidationEnd

FILE = "metrics.csv"
FIRST = ("step", "epoch")
"""Columns that every row has; the metrics follow in the order in which they were first told."""
VALIDATION = "validation/"
"""What the names of validation losses begin with."""


class MetricsCsv(Plugin):
    """Append every report to `<run>/metrics.csv`: a row each, a column for each metric.

    A metric that is told for the first time has a column behind the others, empty in the rows before. Values that are
    not finite are empty too. A step has one such row, however often the run was stopped, killed and resumed, and where
    the loss on validation sets was measured, one more.
    """

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        super().__init__(settings, name=name)
        self._columns: tuple[str, ...] = ()
        """Of the file, as it is; none while there is no file."""
        self._kept_step = 0
        """Of the last report that this session found; a resumed run may tell again what was told before."""

    @on("run.start")
    def resume(self, event: RunStart) -> None:
        """Drop the rows of steps that will be taken again, and one that a killed run left unfinished."""
        self._drop_after(event.run.folder / FILE, event.resumed_step)

    @on("checkpoint.loaded")
    def go_back(self, event: CheckpointLoaded) -> None:
        """A run that goes back while it is running takes the steps after the checkpoint anew, too."""
        self._drop_after(event.run.folder / FILE, event.step)

    @on("metrics.ready")
    def tell(self, event: MetricsReady) -> None:
        if event.step > self._kept_step:
            self._append(event.run.folder / FILE, event.step, event.epoch, event.values)

    @on("validation.end")
    def tell_validation(self, event: ValidationEnd) -> None:
        if event.losses:
            losses = {f"{VALIDATION}{name}": loss for name, loss in event.losses.items()}
            self._append(event.run.folder / FILE, event.step, event.epoch, losses)

    def _append(self, path: Path, step: int, epoch: int, values: Mapping[str, float]) -> None:
        if new := [name for name in values if name not in self._columns]:
            columns = (*(self._columns or FIRST), *new)
            rewrite(path, _table(columns, _read(path)[1] if self._columns else ()))
            self._columns = columns
        cells = {"step": str(step), "epoch": str(epoch)} | {name: _cell(value) for name, value in values.items()}
        append(path, _line([cells.get(name, "") for name in self._columns]))

    def _drop_after(self, path: Path, last: int) -> None:
        if not path.is_file():
            return
        self._columns, rows = _read(path)
        kept = [row for row in rows if int(row[0]) <= last]
        measured = [number for number, name in enumerate(self._columns) if name.startswith(VALIDATION)]
        reports = (int(row[0]) for row in kept if not any(row[number] for number in measured))
        self._kept_step = max(reports, default=0)
        rewrite(path, _table(self._columns, kept))


def _read(path: Path) -> tuple[tuple[str, ...], list[list[str]]]:
    """Columns and rows; what cannot be read as a row is left out."""
    whole = path.read_text(encoding="utf-8", errors="replace").rpartition("\n")[0]
    table = csv.reader(whole.splitlines())
    columns = tuple(next(table, ()))
    if columns[: len(FIRST)] != FIRST:
        return FIRST, []
    return columns, [row for row in table if len(row) == len(columns) and row[0].isdecimal()]


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Every row as long as the first, which has the names."""
    padded = ([*row, *[""] * (len(columns) - len(row))] for row in rows)
    return "".join(f"{_line(row)}\n" for row in (columns, *padded))


def _line(cells: Sequence[str]) -> str:
    written = io.StringIO()
    csv.writer(written, lineterminator="").writerow(cells)
    return written.getvalue()


def _cell(value: float) -> str:
    return repr(value) if math.isfinite(value) else ""
