"""The training loop: it plans, steps and keeps the boundaries between steps, and knows no plugin."""

import logging
import math
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice, tee
from time import perf_counter

from events.bus import Bus
from events.catalogue import (
    BATCH_DEVICE,
    CONTROL_APPLIED,
    EPOCH_END,
    EPOCH_START,
    METRICS_READY,
    METRICS_RECORD,
    STEP_END,
    STEP_START,
)  # fmt: skip
from events.control import Control, Request
from events.errors import PluginError
from events.payloads import (
    Batch,
    ControlApplied,
    DeviceContext,
    EpochEnd,
    EpochStart,
    LiveState,
    MetricsContext,
    MetricsReady,
    RunInfo,
    StepEnd,
    StepStart,
)  # fmt: skip
from events.randomness import Streams

from ..compute.device import Device
from ..config.tables import Config
from ..data.epoch import make_plan
from ..data.loader import Loader
from ..data.plan import Plan, digest
from ..data.sets import DataSet
from ..errors import CheckpointError, DataError, NonFiniteError, OutOfMemoryError
from ..ranks.agreement import Agreement
from ..ranks.crew import ONE, Crew
from ..ranks.share import Share, batches_a_step, shares
from ..resuming.position import Position
from ..run_folder.step_mark import StepMark
from ..step.careful import CarefulStep
from ..step.closed import Round, Rounds, Step
from ..step.memory import is_out_of_memory, said_of
from ..step.metrics import MetricsRing, StepNote
from ..timing.profile import StepProfile
from ..timing.spent import TimeSpent
from .artefacts import Artefacts
from .nonfinite import Rewind, refuse_bad_steps, tell_bad_steps
from .pace import Pace

log = logging.getLogger("signalbox.train")
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
    mark: StepMark
    spent: TimeSpent
    crew: Crew = ONE
    profile: StepProfile | None = None
    stop_reason: str = ""
    _steps_in_epoch: int = 0
    _batches_in_epoch: int = 0
    _skipped: int = 0
    """Steps in a row that handlers asked to skip."""
    _loss: float | None = None
    _careful: CarefulStep = field(init=False)
    _rewind: Rewind = field(init=False)
    _pace: Pace = field(init=False)
    _agreement: Agreement = field(init=False)
    _is_going_back: bool = False
    _has_batch: bool = False
    """Whether the first batch has come; the wait for that one is start-up."""

    def __post_init__(self) -> None:
        self._careful = CarefulStep(config=self.config, bus=self.bus, device=self.device, step=self.step)
        self._rewind = Rewind(settings=self.config.train, artefacts=self.artefacts, metrics=self.metrics)
        self._pace = Pace(run=self.run, bus=self.bus, spent=self.spent)
        self._agreement = Agreement(self.crew, self.control)

    def run_to_the_end(self) -> str:
        """Train, going back where numbers are not finite and that is wanted; returns why it is over.

        Raises OutOfMemoryError, NonFiniteError, and what plugins and data make impossible.
        """
        while True:
            try:
                return self.train()
            except NonFiniteError as error:
                self._is_going_back = True
                self.position = self._rewind.go_back(self.position, error)
                self._is_going_back, self._skipped = False, 0
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                raise OutOfMemoryError(
                    f"memory ran out beside the step, after step {self.position.step}; lower train.batch_size,"
                    f" preview.batch_size or data.resolution. What was said: {said_of(error)}"
                ) from error

    @property
    def can_be_saved(self) -> bool:
        """Whether weights and position belong together, and are here: not when a step or going back broke off half-way."""
        return not (self.step.is_torn or self._is_going_back or self.device.divides)

    def train(self) -> str:
        """Train until the run is complete or asked to stop; returns which."""
        self._pace.begin(self.position)
        self._act_on(self._agreement.together("the start"))
        if not self._is_over():
            self.loader.begin()  # workers get ready while the first previews are rendered
        if self.position.step == 0 and not self._is_over():
            self._rewind.prepare(self.position)
            self.artefacts.at_start()
        elif self.position.step and not self._is_over() and self.artefacts.catch_up(self.position):
            self._act_on(self._agreement.together("a validation"))
            self.artefacts.keep_up(self.position, self.metrics)
        if self.profile is not None:
            self.profile.begin(self.position.step, self.run.steps)
        while not self._is_over():
            plan = self._begin_epoch()
            for rounds in self._steps(plan):
                self._keep_boundary(self._take_step(rounds))
                if self._is_over():
                    break
            if self.position.batches_done == len(plan):
                self._end_epoch(plan)
        self.artefacts.at_end(self.position, self.metrics, reason=self.stop_reason or COMPLETE)
        if not self.stop_reason:
            self.spent.wait_for(self.device.device)
            self.crew.together("the end of training")
            self._report(wait=True)
        return self.stop_reason or COMPLETE

    def _is_over(self) -> bool:
        return bool(self.stop_reason) or self.position.step >= self.run.steps

    def _begin_epoch(self) -> Plan:
        """The epoch's plan; a resumed run makes it again and must get the same."""
        at = self.position
        rounds = self._setting("train.accumulate", self.config.train.accumulate)
        planned = at.planned_for or at.accumulate if at.epoch_started else batches_a_step(rounds, self.crew)
        plan = make_plan(self.config, self.bus, self.data, self.run.seed, at.epoch, planned)
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
            at.begin_epoch(fingerprint, planned)
        elif (now := batches_a_step(rounds, self.crew, planned)) != at.accumulate:
            log.warning(
                "%d processes go on with epoch %d, whose steps had %d batches; they have %d from here on",
                self.crew.count, at.epoch, at.accumulate, now,
            )  # fmt: skip
            at.accumulate = now
        self._batches_in_epoch, self._steps_in_epoch = len(plan), -(-len(plan) // at.accumulate)
        if is_new and self.bus[EPOCH_START].chain:
            self.bus[EPOCH_START].emit(
                EpochStart(
                    run=self.run, epoch=at.epoch, step=at.step, steps_in_epoch=self._steps_in_epoch,
                    accumulate=at.accumulate // self.crew.count, control=self.control,
                )
            )  # fmt: skip
        return plan

    def _end_epoch(self, plan: Plan) -> None:
        if self._skipped >= len(plan):
            raise DataError(f"every batch of epoch {self.position.epoch} was skipped by a step.start handler")
        at, signal = self.position, self.bus[EPOCH_END]
        try:
            if signal.chain:
                signal.emit(
                    EpochEnd(
                        run=self.run, epoch=at.epoch, step=at.step, steps_in_epoch=self._steps_in_epoch,
                        mean_loss=at.mean_loss(), control=self.control,
                    )
                )  # fmt: skip
        finally:
            at.end_epoch()  # also where a handler fails, since the others have been told
        self._act_on(self._agreement.together("an epoch"))

    def _steps(self, plan: Plan) -> Iterator[Rounds]:
        """This rank's part of what is left of the plan, step by step, on the device."""
        own, ahead = tee(shares(plan, self.position.batches_done, self.position.accumulate, self.crew))
        batches = self.device.ahead(self.loader.batches(keys for share in ahead for keys in share.keys))
        for share in own:
            yield self._rounds(share, self._wait_for(batches, len(share.keys)))

    def _wait_for(self, batches: Iterator[Batch], count: int) -> tuple[Batch, ...]:
        """Those of the next step."""
        with self.spent.on("data" if self._has_batch else "start-up"):
            taken = tuple(islice(batches, count))
        self._has_batch = True
        return taken

    def _rounds(self, share: Share, batches: tuple[Batch, ...]) -> Rounds:
        return Rounds(
            all=tuple(
                Round(batch=self._on_device(batch, number), number=number, is_stand_in=share.is_stand_in(place))
                for place, (batch, number) in enumerate(zip(batches, share.numbers, strict=True))
            ),
            images=share.images, count=share.batches,
        )  # fmt: skip

    def _on_device(self, batch: Batch, number: int) -> Batch:
        signal, at = self.bus[BATCH_DEVICE], self.position
        if not signal.chain:
            return batch
        rng = Streams(self.run.seed, "batch.device", at.step, number)
        return signal.apply(batch, DeviceContext(epoch=at.epoch, step=at.step, round=number, rng=rng))

    def _take_step(self, rounds: Rounds) -> StepNote | None:
        """One step on these batches; None when a handler asked to skip it, which uses them up all the same."""
        at, begun, batches = self.position, perf_counter(), rounds.batches
        if at.is_left_out:
            log.info("the batch after step %d is left out: it was not finite before the run went back", at.step)
            at.batches_done += rounds.count
            return None
        step_in_epoch = at.batches_done // at.accumulate
        if self.bus[STEP_START].chain:
            self.bus[STEP_START].emit(
                StepStart(
                    run=self.run, step=at.step + 1, epoch=at.epoch, step_in_epoch=step_in_epoch,
                    steps_in_epoch=self._steps_in_epoch, batches=batches,
                    live=self.live, control=self.control,
                )
            )  # fmt: skip
        if self.bus[STEP_START].planned and (skips := self._agreement.skips()):
            at.batches_done += rounds.count
            self._skipped += 1
            for request in skips:
                self._announce(request)
            return None
        with self.spent.on("steps"):
            rates = self._careful.take(rounds, at.step)
        seconds = perf_counter() - begun
        first, at.step, at.batches_done = at.batches_done, at.step + 1, at.batches_done + rounds.count
        at.images += rounds.images
        self._skipped = 0
        paths = tuple(path for batch in batches for path in batch.paths)
        taken = StepNote(step=at.step, epoch=at.epoch, images=rounds.images, rates=rates, paths=paths, batch=first)
        if self.bus[STEP_END].chain:
            with self._noting(taken):
                self.bus[STEP_END].emit(
                    StepEnd(
                        run=self.run, step=at.step, epoch=at.epoch, step_in_epoch=step_in_epoch,
                        steps_in_epoch=self._steps_in_epoch, learning_rates=rates,
                        batches=batches, stand_ins=rounds.stand_ins, host_seconds=seconds, live=self.live,
                        control=self.control,
                    )
                )  # fmt: skip
        return taken

    @contextmanager
    def _noting(self, taken: StepNote | None) -> Generator[None, None, None]:
        """Note the step at once if this fails, so that a checkpoint taken then has the numbers of every step."""
        try:
            yield
        except BaseException:
            if taken is not None:
                self.metrics.note(taken)
            raise

    def _keep_boundary(self, taken: StepNote | None) -> None:
        """What happens between two steps, in the order the catalogue's map gives."""
        if self.profile is not None:
            self.profile.end_step(self.position.step, is_last=self._is_over())
        with self._noting(taken):
            self.mark.note(self.position.step)
            is_meeting = self.metrics.is_full or self._is_over() or self.position.batches_done == self._batches_in_epoch
            if is_meeting or not self.crew.are_several:
                self.artefacts.settle()
            self.bus.surface_async_failures()
            self._report()
        if taken is not None:
            self.metrics.note(taken)
        self._pace.show(self.position, self._loss, now=self._is_over())
        self._act_on(self._agreement.at_boundary(is_meeting=is_meeting))
        if taken is None or self._is_over():
            return
        if self.artefacts.validate_when_due(self.position):
            self._act_on(self._agreement.together("a validation"))  # what was asked then is about these weights
        if not self._is_over():
            self.artefacts.keep_up(self.position, self.metrics)

    def _report(self, *, wait: bool = False) -> None:
        """Tell the numbers that have arrived, and act on steps that were skipped for not being finite."""
        times: dict[str, float] = {}
        for report in self.metrics.landed(wait=wait):
            times = times or self.spent.take_metrics()
            tell_bad_steps(report, self.run.seed)
            refuse_bad_steps(report, self.config.train)
            context = MetricsContext(step=report.step, epoch=report.epoch)
            try:
                values = self.bus[METRICS_RECORD].apply(report.values | times, context)
            except PluginError:
                self.metrics.put_back()
                raise
            if not math.isnan(report.values["loss"]):
                self._loss = report.values["loss"]
                if report.epoch == self.position.epoch:
                    self.position.epoch_loss_sum += self._loss
                    self.position.epoch_loss_steps += 1
            signal = self.bus[METRICS_READY]
            if signal.chain:
                signal.emit(MetricsReady(run=self.run, step=report.step, epoch=report.epoch, values=values))

    def _act_on(self, requests: Iterable[Request]) -> None:
        for request in requests:
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
