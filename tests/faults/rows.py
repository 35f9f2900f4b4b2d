"""The scorecard: every row with its id, its title and how many trials it makes in each size."""

import importlib
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .bench import Bench, Size


@dataclass(frozen=True)
class Row:
    """One line of the scorecard."""

    id: str
    title: str
    counts: dict[Size, int]
    trials: Callable[[Bench], None]


@dataclass(frozen=True)
class Result:
    """How a row went."""

    row: Row
    passed: int
    problems: tuple[str, ...]
    seconds: float
    notes: Mapping[str, int] = field(default_factory=dict)
    """What it counted on its way."""
    cpu_seconds: float = 0.0
    """Of the processor, in all of its processes."""

    @property
    def verdict(self) -> str:
        return "fail" if self.problems or not self.passed else "pass"

    @property
    def line(self) -> str:
        """`F03 pass 50/50`."""
        return f"{self.row.id} {self.verdict} {self.passed}/{self.passed + len(self.problems)}"


ROWS: dict[str, Row] = {}


def row(
    id: str, title: str, *, cut: int = 1, short: int = 1, long: int = 1
) -> Callable[[Callable[[Bench], None]], Callable[[Bench], None]]:
    """Declare the function below as a row; it makes `bench.count` trials, or one for each of its cases."""

    def declare(trials: Callable[[Bench], None]) -> Callable[[Bench], None]:
        assert id not in ROWS, f"two rows are {id}"
        ROWS[id] = Row(id, title, {"cut": cut, "short": short, "long": long}, trials)
        return trials

    return declare


def all_rows() -> dict[str, Row]:
    """By id, F01 first and S13 last; they are declared in the files `rows_<name>.py`."""
    for path in sorted(Path(__file__).parent.glob("rows_*.py")):
        importlib.import_module(f"tests.faults.{path.stem}")
    return {id: ROWS[id] for id in sorted(ROWS, key=lambda id: (id[0], int(id[1:])))}


def run_row(row: Row, size: Size) -> Result:
    """Make its trials in a folder of their own."""
    begun, used = time.monotonic(), processor_seconds()
    with tempfile.TemporaryDirectory(prefix=f"signalbox-{row.id}-", ignore_cleanup_errors=True) as folder:
        bench = Bench(row.id, size, row.counts[size], Path(folder))
        with bench.trial("the row itself"):
            row.trials(bench)
        bench.passed -= not bench.problems or not bench.problems[-1].startswith("the row itself")
    return Result(
        row, bench.passed, tuple(bench.problems), time.monotonic() - begun, bench.notes, processor_seconds() - used
    )


def processor_seconds() -> float:
    """Used by this process and its children so far."""
    return sum(os.times()[:4])
