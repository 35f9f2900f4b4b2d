"""A plugin that measures the steps of a run, by the device's own clock where there is one."""

from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from time import perf_counter
from typing import Any

import torch
from pydantic import Field

from events import Plugin, PluginSettings, on
from events.payloads import ModelReady, StepEnd


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Of the steps that were counted."""

    steps_per_second: float
    images_per_second: float
    step_ms: float
    """The median, by CUDA events; without CUDA by the host's clock."""
    peak_bytes: int
    """Of tensors on the device, weights and optimizer included; 0 without CUDA."""
    first_seconds: float
    """From the start of training to the end of the first step, which compiles where that is asked for."""


class Meter(Plugin):
    """Marks the end of each step on the device, which nothing waits for before the last."""

    class Settings(PluginSettings):
        warm_up: int = Field(30, ge=1, description="steps that are not counted")
        steps: int = Field(100, ge=1, description="steps that are, after those")

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        super().__init__(settings, name=name)
        self.measured: Measured | None = None
        """Once the last of the steps has been taken."""
        self._marks: list[Any] = []
        self._images = 0
        self._begun = self._ready = self._first_seconds = 0.0

    @on("model.ready", priority=99)
    def note_device(self, event: ModelReady) -> None:
        self._is_cuda = next(iter(event.groups[0].parameters.values())).is_cuda
        self._ready = perf_counter()

    @on("step.end", priority=99)
    def mark(self, event: StepEnd) -> None:
        if event.step == 1:
            self._wait()
            self._first_seconds = perf_counter() - self._ready
        if event.step == self.settings.warm_up:
            self._wait()
            if self._is_cuda:
                torch.cuda.reset_peak_memory_stats()
            self._begun = perf_counter()
        if event.step >= self.settings.warm_up and self.measured is None:
            self._marks.append(self._mark())
            self._images += sum(batch.count for batch in event.batches) if event.step > self.settings.warm_up else 0
        if event.step == self.settings.warm_up + self.settings.steps:
            self._end()

    def _mark(self) -> Any:
        if not self._is_cuda:
            return perf_counter()
        mark = torch.cuda.Event(enable_timing=True)
        mark.record()
        return mark

    def _end(self) -> None:
        self._wait()
        seconds = perf_counter() - self._begun
        between = [
            one.elapsed_time(other) if self._is_cuda else 1e3 * (other - one) for one, other in pairwise(self._marks)
        ]
        self.measured = Measured(
            steps_per_second=self.settings.steps / seconds,
            images_per_second=self._images / seconds,
            step_ms=median(between),
            peak_bytes=torch.cuda.max_memory_allocated() if self._is_cuda else 0,
            first_seconds=self._first_seconds,
        )

    def _wait(self) -> None:
        if self._is_cuda:
            torch.cuda.synchronize()
