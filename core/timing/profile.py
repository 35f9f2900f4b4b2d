"""A profile of some steps, for `--profile`: torch's trace with a range for each signal, handler and kind of time."""

import gzip
import json
import logging
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from .spent import TimeSpent, no_range
from .trace_summary import summary_lines

if TYPE_CHECKING:
    from ..run.trainer import Trainer

log = logging.getLogger("signalbox.train")
P = ParamSpec("P")
Result = TypeVar("Result")
WARM_UP_STEPS = 3
"""Left out before the first that is recorded, where the run is long enough: they load kernels and fill caches."""
LARGE_BYTES = 64_000_000
"""A trace that is larger is compressed; viewers read it all the same."""


class StepProfile:
    """Records the training process; loader workers are other processes, whose work shows as waiting for data alone.

    A range "step N" reaches from one boundary to the next and holds all others: "data", "steps" (the closed step) with
    "forward", "backward" and torch's own range of the optimizer, each signal by its name with its handlers, and
    "validation", "previews" and the other kinds of `time_spent`. Async handlers run in another thread and show as their
    hand-over. The numbers of training are those of a run without it.
    """

    def __init__(self, folder: Path, steps: int, spent: TimeSpent) -> None:
        """`steps` are recorded, or as many as there are; the files go to `folder`."""
        self.path: Path | None = None
        """The trace, once it is written."""
        self._folder = folder
        self._steps = steps
        self._spent = spent
        self._before = 0
        """Steps to let go by."""
        self._torch: profile | None = None
        self._range = ExitStack()
        self._recorded: list[int] = []
        """The number of each step that was recorded."""

    def attach(self, trainer: "Trainer") -> None:
        """Put ranges around what is called: calls are swapped for the rest of the run, as the bus does for tracing."""
        trainer.profile = self
        trainer.bus.show_ranges(record_function)
        self._spent.range_of = record_function
        trainer.step.losses = in_range("forward", trainer.step.losses)
        trainer.device.backward = in_range("backward", trainer.device.backward)  # type: ignore[method-assign]  # swapped

    def begin(self, step: int, last_step: int) -> None:
        """Training begins after `step`; does nothing when it begins again."""
        if self._torch is not None or self._recorded or step >= last_step:
            return
        self._before = min(WARM_UP_STEPS, max(last_step - step - self._steps, 0))
        if not self._before:
            self._start(step)

    def end_step(self, step: int, *, is_last: bool) -> None:
        """A boundary after step `step`; `is_last`: the run is over."""
        if self._torch is not None:
            self._range.close()
            self._recorded.append(step)
            if is_last or len(self._recorded) == self._steps:
                self.close()
            else:
                self._range.enter_context(record_function(f"step {step + 1}"))
        elif not self._recorded:
            self._before -= 1
            if not (self._before or is_last):
                self._start(step)

    def close(self) -> None:
        """Write what has been recorded, if it is not written yet; a disk that does not take it is told."""
        recorder, self._torch = self._torch, None
        if recorder is not None:
            self._range.close()
            self._spent.range_of = no_range
            with self._spent.on("profile"):
                recorder.stop()
                self._try_to_write(recorder)
        if not self._recorded:
            log.warning("no step has been profiled: the run ended before")

    def _start(self, step: int) -> None:
        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
        with self._spent.on("profile"):
            self._torch = profile(activities=activities)
            self._torch.start()
        self._range.enter_context(record_function(f"step {step + 1}"))

    def _try_to_write(self, recorder: profile) -> None:
        if not self._recorded:
            return
        try:
            self._write(recorder)
        except OSError as error:
            log.error("the profile cannot be written: %s", error)

    def _write(self, recorder: profile) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        first, last = self._recorded[0], self._recorded[-1]
        path = self._folder / f"step-{first}-{last}.json"
        recorder.export_chrome_trace(str(path))
        events = json.loads(path.read_bytes())["traceEvents"]
        path.with_suffix(".txt").write_text("".join(f"{line}\n" for line in summary_lines(events)), encoding="utf-8")
        self.path = compressed(path) if path.stat().st_size > LARGE_BYTES else path
        log.info("profile of the steps %d to %d: %s (the dearest operators beside it)", first, last, self.path)


def in_range(name: str, function: Callable[P, Result]) -> Callable[P, Result]:
    """The function, each call of it a range of this name."""

    def call_in_range(*arguments: P.args, **named: P.kwargs) -> Result:
        with record_function(name):
            return function(*arguments, **named)

    return call_in_range


def compressed(path: Path) -> Path:
    """The file as `name.gz` in its place."""
    target = path.with_name(f"{path.name}.gz")
    with path.open("rb") as plain, gzip.open(target, "wb") as packed:
        shutil.copyfileobj(plain, packed)
    path.unlink()
    return target
