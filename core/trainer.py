"""The training loop: it plans, steps and keeps the boundaries between steps, and knows no plugin."""

import logging
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from time import perf_counter

from events.bus import Bus
from events.catalogue import (
    BATCH_DEVICE,
    CONTROL_APPLIED,
    EPOCH_END,
    EPOCH_PLAN,
    EPOCH_START,
    METRICS_READY,
    METRICS_RECORD,
    PROGRESS,
    STEP_END,
    STEP_START,
)  # fmt: skip
from events.control import Control, Request
from events.payloads import (
    Batch,
    ControlApplied,
    DeviceContext,
    EpochEnd,
    EpochStart,
    LiveState,
    MetricsContext,
    MetricsReady,
    PlanContext,
    Progress,
    RunInfo,
    StepEnd,
    StepStart,
)  # fmt: skip
from events.randomness import Streams

from .artefacts import Artefacts
from .config import Config
from .data.loader import Loader
from .data.plan import Plan, PlanSettings, digest, plan_epoch, plan_problems
from .data.sets import DataSet
from .device import Device
from .errors import CheckpointError, DataError, NonFiniteError
from .metrics import MetricsRing, Report, StepNote
from .position import Position
from .step import Step

log = logging.getLogger("signalbox.train")
PROGRESS_SECONDS = 0.25
PROGRESS_MARKS = 60
"""How many shows of progress a rate is taken over: 15 s, or 60 steps where a step takes longer."""
COMPLETE = "complete"


@dataclass(slots=True, kw_only=True)
class Trainer:
    """A run that is assembled and ready to train."""

    config: Config
    run: RunInfo
    bus: Bus
    control: Control
    device: Device
    data: DataSet
    loader: Loader
    step: Step
    metrics: MetricsRing
    live: LiveState
    position: Position
    artefacts: Artefacts
    stop_reason: str = ""
    _marks: deque[tuple[float, int, int]] = field(default_factory=lambda: deque(maxlen=PROGRESS_MARKS))
    """(time, step, images) of the newest shows of progress."""
    _steps_in_epoch: int = 0
    _skipped: int = 0
    """Steps in a row that handlers asked to skip."""
    _loss: float | None = None

    def train(self) -> str:
        """Train until the run is complete or asked to stop; returns which."""
        self._marks.append((perf_counter(), self.position.step, self.position.images))
        self._act_on_requests()
        if self.position.step == 0 and not self._is_over():
            self.artefacts.at_start()
        while not self._is_over():
            plan = self._begin_epoch()
            for batches in self._steps(plan):
                self._keep_boundary(self._take_step(batches))
                if self._is_over():
                    break
            if self.position.batches_done == len(plan):
                self._end_epoch(plan)
        self.artefacts.at_end(self.position, self.metrics, reason=self.stop_reason or COMPLETE)
        if not self.stop_reason:
            self._report(wait=True)
        return self.stop_reason or COMPLETE

    def _is_over(self) -> bool:
        return bool(self.stop_reason) or self.position.step >= self.run.steps

    def _begin_epoch(self) -> Plan:
        """The epoch's plan; a resumed run makes it again and must get the same."""
        at = self.position
        accumulate = (
            at.accumulate if at.epoch_started else self._setting("train.accumulate", self.config.train.accumulate)
        )
        plan = make_plan(self.config, self.bus, self.data, self.run.seed, at.epoch, accumulate)
        if not plan:
            raise DataError(f"epoch {at.epoch} has no batch; every item has weight 0 or was dropped by a plugin")
        fingerprint = digest(plan, self.data.items.names)
        if at.epoch_started and fingerprint != at.plan_digest:
            raise CheckpointError(
                f"the run stands in the middle of epoch {at.epoch}, and its data, batch size or an epoch.plan plugin"
                " has changed since; set it back, or start anew with --fresh"
            )
        is_new = not at.epoch_started
        if is_new:
            at.begin_epoch(fingerprint, accumulate)
        self._steps_in_epoch = -(-len(plan) // at.accumulate)
        if is_new and self.bus[EPOCH_START].chain:
            self.bus[EPOCH_START].emit(
                EpochStart(
                    run=self.run, epoch=at.epoch, step=at.step, steps_in_epoch=self._steps_in_epoch,
                    accumulate=at.accumulate, control=self.control,
                )
            )  # fmt: skip
        return plan

    def _end_epoch(self, plan: Plan) -> None:
        if self._skipped >= len(plan):
            raise DataError(f"every batch of epoch {self.position.epoch} was skipped by a step.start handler")
        at, signal = self.position, self.bus[EPOCH_END]
        if signal.chain:
            signal.emit(
                EpochEnd(
                    run=self.run, epoch=at.epoch, step=at.step, steps_in_epoch=self._steps_in_epoch,
                    mean_loss=at.mean_loss(), control=self.control,
                )
            )  # fmt: skip
        at.end_epoch()
        self._act_on_requests()

    def _steps(self, plan: Plan) -> Iterator[tuple[Batch, ...]]:
        """What is left of the plan, as one tuple of device batches for each step."""
        batches = self.device.ahead(self.loader.batches(plan[self.position.batches_done :]))
        while rounds := tuple(islice(batches, self.position.accumulate)):
            yield tuple(self._on_device(batch, number) for number, batch in enumerate(rounds))

    def _on_device(self, batch: Batch, number: int) -> Batch:
        signal, at = self.bus[BATCH_DEVICE], self.position
        if not signal.chain:
            return batch
        rng = Streams(self.run.seed, "batch.device", at.step, number)
        return signal.apply(batch, DeviceContext(epoch=at.epoch, step=at.step, round=number, rng=rng))

    def _take_step(self, batches: tuple[Batch, ...]) -> StepNote | None:
        """One step on these batches; None when a handler asked to skip it, which uses them up all the same."""
        at, begun = self.position, perf_counter()
        step_in_epoch = at.batches_done // at.accumulate
        if self.bus[STEP_START].chain:
            self.bus[STEP_START].emit(
                StepStart(
                    run=self.run, step=at.step + 1, epoch=at.epoch, step_in_epoch=step_in_epoch,
                    steps_in_epoch=self._steps_in_epoch, batches=batches,
                    live=self.live, control=self.control,
                )
            )  # fmt: skip
            if skips := self.control.take("skip_batch"):
                at.batches_done += len(batches)
                self._skipped += 1
                for request in skips:
                    self._announce(request)
                return None
        with self.bus.closed():
            rates = self.step.take(batches, at.step)
        seconds = perf_counter() - begun
        at.step, at.batches_done = at.step + 1, at.batches_done + len(batches)
        at.images += (images := sum(batch.count for batch in batches))
        self._skipped = 0
        if self.bus[STEP_END].chain:
            self.bus[STEP_END].emit(
                StepEnd(
                    run=self.run, step=at.step, epoch=at.epoch, step_in_epoch=step_in_epoch,
                    steps_in_epoch=self._steps_in_epoch, learning_rates=rates,
                    batches=batches, host_seconds=seconds, live=self.live, control=self.control,
                )
            )  # fmt: skip
        paths = tuple(path for batch in batches for path in batch.paths)
        return StepNote(step=at.step, epoch=at.epoch, images=images, rates=rates, paths=paths)

    def _keep_boundary(self, taken: StepNote | None) -> None:
        """What happens between two steps, in the order the catalogue's map gives."""
        self.bus.surface_async_failures()
        self._report()
        if taken is not None:
            self.metrics.note(taken)
        self._show_progress()
        self._act_on_requests()
        if taken is None or self._is_over():
            return
        if self.artefacts.validate_when_due(self.position):
            self._act_on_requests()  # what was asked for on seeing the loss is about these weights
        if not self._is_over():
            self.artefacts.keep_up(self.position, self.metrics)

    def _report(self, *, wait: bool = False) -> None:
        """Tell the numbers that have arrived, and act on steps that were skipped for not being finite."""
        for report in self.metrics.landed(wait=wait):
            self._act_on_nonfinite(report)
            context = MetricsContext(step=report.step, epoch=report.epoch)
            values = self.bus[METRICS_RECORD].apply(report.values, context)
            if not math.isnan(report.values["loss"]):
                self._loss = report.values["loss"]
                if report.epoch == self.position.epoch:
                    self.position.epoch_loss_sum += self._loss
                    self.position.epoch_loss_steps += 1
            signal = self.bus[METRICS_READY]
            if signal.chain:
                signal.emit(MetricsReady(run=self.run, step=report.step, epoch=report.epoch, values=values))

    def _act_on_nonfinite(self, report: Report) -> None:
        for note in report.bad:
            log.warning(
                "step %d was skipped: loss or gradient not finite; its files: %s", note.step, ", ".join(note.paths)
            )
        if not report.bad:
            return
        limit = 1 if self.config.train.on_nonfinite == "stop" else self.config.train.max_skipped
        if report.consecutive_bad >= limit:
            note = report.bad[-1]
            raise NonFiniteError(
                f"{report.consecutive_bad} step(s) in a row up to step {note.step} had a loss or gradient that is not"
                f" finite (train.on_nonfinite = '{self.config.train.on_nonfinite}'). No weight was touched by them and the"
                f" last checkpoint stands. Lower train.learning_rate, or look at: {', '.join(note.paths)}"
            )

    def _show_progress(self) -> None:
        signal, now, at = self.bus[PROGRESS], perf_counter(), self.position
        if not signal.chain or (now - self._marks[-1][0] < PROGRESS_SECONDS and not self._is_over()):
            return
        self._marks.append((now, at.step, at.images))
        begun, step, images = self._marks[0]
        seconds, waiting = max(now - begun, 1e-9), self.loader.waiting
        signal.emit(
            Progress(
                run=self.run, step=at.step, steps=self.run.steps, loss=self._loss,
                images_per_second=(at.images - images) / seconds,
                eta_seconds=seconds / max(at.step - step, 1) * (self.run.steps - at.step),
                data_fraction=waiting.seconds / max(now - waiting.since, 1e-9),
            )
        )  # fmt: skip

    def _act_on_requests(self) -> None:
        for request in self.control.take("stop", "save", "preview", "evaluate", "export", "set", "skip_batch"):
            if request.kind == "stop":
                self.stop_reason = self.stop_reason or request.reason or "asked to stop"
            elif request.kind == "set" and request.value is not None:
                self.position.settings[request.key] = request.value
            elif request.kind == "skip_batch":
                log.warning("skip_batch does nothing outside step.start (%s)", request.asker or "a plugin")
                continue
            else:
                self.artefacts.ask(request.kind, request.reason)
            self._announce(request)

    def _announce(self, request: Request) -> None:
        said = " ".join(part for part in (request.key, str(request.value or ""), request.reason) if part)
        log.info("%s: %s (asked by %s)", request.kind, said, request.asker or "a plugin")
        signal = self.bus[CONTROL_APPLIED]
        if signal.chain:
            signal.emit(
                ControlApplied(
                    step=self.position.step, kind=request.kind, key=request.key, value=request.value,
                    reason=request.reason, asker=request.asker,
                )
            )  # fmt: skip

    def _setting(self, key: str, configured: int) -> int:
        return self.position.settings.get(key, configured)


def make_plan(config: Config, bus: Bus, data: DataSet, seed: int, epoch: int, accumulate: int) -> Plan:
    """An epoch's plan after the `epoch.plan` handlers. Raises DataError for what no batch can be."""
    settings = PlanSettings(seed=seed, batch_size=config.train.batch_size, fill=config.data.short_batches == "fill")
    plan, signal = plan_epoch(data.items, data.geometry, settings, epoch, accumulate), bus[EPOCH_PLAN]
    if not signal.chain:
        return plan
    rng = Streams(seed, "epoch.plan", epoch, "plugins")
    context = PlanContext(epoch=epoch, items=data.items, batch_size=settings.batch_size, rng=rng)
    plan = Plan.of(signal.apply(plan.batches(), context))
    for problem in plan_problems(plan, data.geometry):
        raise DataError(f"after the epoch.plan plugins {problem}")
    return plan
