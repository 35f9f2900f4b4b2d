"""Numbers of the run as lines of JSON, for whoever plots them."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from core.log.growing_file import append, rewrite
from events import Plugin, on
from events.payloads import CheckpointLoaded, MetricsReady, RunStart, ValidationEnd

FILE = "metrics.jsonl"
VALIDATION = "validation/"
"""What the names of validation losses begin with."""


class MetricsFile(Plugin):
    """Append every report to `<run>/metrics.jsonl`: ``{"step": 10, "epoch": 0, "values": {"loss": 0.5, ...}}``.

    Values that are not finite are null. A step has one such line, however often the run was stopped, killed and resumed,
    and where the loss on validation sets was measured, one more: ``"values": {"validation/held_out": 0.5}``.
    """

    _kept_step = 0
    """Of the last report that this session found; a resumed run may tell again what was told before."""

    @on("run.start")
    def resume(self, event: RunStart) -> None:
        """Drop the lines of steps that will be taken again, and a line that a killed run left unfinished."""
        self._drop_after(event.run.folder / FILE, event.resumed_step)

    @on("checkpoint.loaded")
    def go_back(self, event: CheckpointLoaded) -> None:
        """A run that goes back while it is running takes the steps after the checkpoint anew, too."""
        self._drop_after(event.run.folder / FILE, event.step)

    @on("metrics.ready")
    def tell(self, event: MetricsReady) -> None:
        if event.step > self._kept_step:
            _append(event.run.folder, event.step, event.epoch, event.values)

    @on("validation.end")
    def tell_validation(self, event: ValidationEnd) -> None:
        if event.losses:
            values = {f"{VALIDATION}{name}": loss for name, loss in event.losses.items()}
            _append(event.run.folder, event.step, event.epoch, values)

    def _drop_after(self, path: Path, last: int) -> None:
        if not path.is_file():
            return
        kept = [(step, line) for step, line in _whole_lines(path) if step <= last]
        self._kept_step = max((step for step, line in kept if f'"{VALIDATION}' not in line), default=0)
        rewrite(path, "".join(f"{line}\n" for _, line in kept))


def _append(folder: Path, step: int, epoch: int, values: Mapping[str, float]) -> None:
    finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
    append(folder / FILE, json.dumps({"step": step, "epoch": epoch, "values": finite}))


def _whole_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(step, line) of each line that can be read."""
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            yield int(json.loads(line)["step"]), line
        except (ValueError, KeyError, TypeError):
            continue
