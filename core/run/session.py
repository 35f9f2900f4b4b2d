"""One session of a run: assemble the parts, train, and whatever happens, end in good order."""

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import tomli

from events.bus import Bus
from events.catalogue import RUN_CLOSE, RUN_CONFIGURE, RUN_END, RUN_ERROR, RUN_START
from events.control import Control
from events.errors import PluginError
from events.payloads import ConfigureContext, RunClose, RunEnd, RunError, RunInfo, RunStart
from events.ranks import ALONE
from events.watchdog import watching

from ..attached.checks import require_fit_plugins
from ..attached.facts import code_lines, fact_lines, plugin_facts
from ..attached.plan_text import plan_lines
from ..config.changes import change_lines, differences, refuse_unsafe
from ..config.file import redactor_of, to_toml, validate
from ..config.tables import Config, PluginSource
from ..data.same import require_same_data
from ..errors import (
    PLUGIN_EXIT_CODE,
    ConfigError,
    DataError,
    LostRankError,
    OtherRankError,
    OutOfMemoryError,
    exit_code_of,
)
from ..history.recording import Recorder
from ..log.lines import log_to_file
from ..ranks.crew import ONE, Crew
from ..ranks.lost import is_broken_contact
from ..run_folder.folder import RunFolder
from ..run_folder.lock import locked
from ..run_folder.step_mark import marked_step
from ..timing.profile import StepProfile
from ..timing.spent import TimeSpent
from ..timing.text import time_lines
from .assembly import Assembly
from .interrupt import Interruption, stop_on_signals
from .trainer import COMPLETE, Trainer

log = logging.getLogger("signalbox.run")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a session ended and where its results lie."""

    reason: str
    step: int
    folder: Path
    exit_code: int
    seconds: float
    profile: Path | None
    """The trace of `--profile`."""
    spent: TimeSpent

    @property
    def results(self) -> tuple[tuple[str, Path], ...]:
        """(what it is, where it lies) of what the run has left so far."""
        newest = {part: _newest(self.folder / part) for part in ("previews", "exports")}
        places = {
            "evolution": self.folder / "previews" / "evolution.png",
            "previews": newest["previews"],
            "metrics": self.folder / "metrics.jsonl",
            "report": self.folder / "report.html",
            "model": newest["exports"],
            "profile": self.profile,
        }
        return tuple((what, path) for what, path in places.items() if path is not None and path.exists())


def configure(bus: Bus, config: Config, source: str) -> Config:
    """The config after the run.configure handlers, validated once more; `source` is its file's name.

    Raises ConfigError for what a handler made invalid, and for another list of plugins: those are attached already.
    """
    changed: Config = bus[RUN_CONFIGURE].apply(config, ConfigureContext(source=source))
    if changed is config:
        return config
    again, problems = validate(changed.model_dump(mode="json"))
    if again is None:
        raise ConfigError("a run.configure handler", problems)
    if again.plugins != config.plugins:
        raise ConfigError("a run.configure handler", ["plugins  are attached already and cannot be changed"])
    return again


class Session:
    """The life of one process of one run."""

    def __init__(
        self,
        config: Config,
        bus: Bus,
        plugins: PluginSource,
        folder: RunFolder,
        *,
        accept_data_change: bool = False,
        trace: Path | None = None,
        profiled_steps: int = 0,
        command: Sequence[str] = (),
        crew: Crew = ONE,
    ) -> None:
        """`config` is as `configure` returned it; the bus has every plugin attached and is sealed.

        `command` is what a user types to go on with the run.
        """
        self.interruption = Interruption()
        self._crew = crew
        self._bus = bus
        self._folder = folder
        self._stage = "config"
        self.spent = TimeSpent(bus)
        profiles = folder.path / "profile" / ("" if crew.is_main else f"rank-{crew.rank}")
        self._profile = StepProfile(profiles, profiled_steps, self.spent) if profiled_steps else None
        self._trainer: Trainer | None = None
        self.config = config
        self.run = RunInfo(
            name=folder.path.name,
            folder=folder.path,
            seed=self.config.run.seed,
            steps=self.config.train.steps,
            data_roots=tuple(str(root) for root in self.config.data.roots),
        )
        self._control = Control()
        crew.heed(self._control)
        self._recorder = Recorder(
            folder.path, bus=bus, redactor=redactor_of(self.config), command=command, beside=plugins.folder
        )
        self._assembly = Assembly(
            config=self.config,
            run=self.run,
            bus=bus,
            control=self._control,
            plugins=plugins,
            folder=folder,
            accept_data_change=accept_data_change,
            trace=trace,
            spent=self.spent,
            crew=crew,
            recorder=self._recorder if crew.is_main else None,
        )

    def execute(self) -> Outcome:
        """Train to the end, or to the first reason to stop. Raises what went wrong, after run.error and run.close.

        Before anything is made, ConfigError for what plugins say would go wrong with them.
        """
        require_fit_plugins(self._bus)
        if self._crew.is_main:
            self._folder.create()
        with locked(self._folder.path) if self._crew.is_main else nullcontext():
            if self._crew.is_main:
                self._folder.require_unchanged()
            self._crew.together("the run's folder")
            return self._execute()

    def _execute(self) -> Outcome:
        own = "" if self._crew.is_main else f"-rank-{self._crew.rank}"
        handler = log_to_file(self._folder.path / f"log{own}.jsonl", redactor_of(self.config))
        try:
            with stop_on_signals(self._control, self.interruption), self._watching_handlers():
                reason = self._run()
            assert self._trainer is not None
            return Outcome(
                reason=reason, step=self._trainer.position.step, folder=self._folder.path,
                exit_code=self.interruption.exit_code, seconds=self.spent.total_seconds(),
                profile=self._profile.path if self._profile else None, spent=self.spent,
            )  # fmt: skip
        finally:
            for line in time_lines(self.spent, self._bus, self.config):
                log.debug("%s", line.strip())  # the command line prints them last
            logging.getLogger().removeHandler(handler)
            handler.close()

    def _watching_handlers(self) -> AbstractContextManager[None]:
        """Handlers that hang are told, and broken off past the limit."""
        settings = self.config.log
        return watching(
            self._bus.running, stack_after_seconds=settings.hang_seconds, limit_seconds=settings.hang_limit_seconds
        )

    def _run(self) -> str:
        grace_seconds = FAILED_GRACE_SECONDS
        try:
            with self._crew.told():
                reason = self._train()
            grace_seconds = GRACE_SECONDS
            self._record_end(reason=reason)
            return reason
        except BaseException as error:
            is_first = self._crew.tell_cause(error, self.interruption.exit_code_after(error) or exit_code_of(error))
            level = logging.DEBUG if self._crew.are_several else logging.ERROR  # of several one tells it, and once
            log.log(
                level, "the run ends with an error (%s)%s: %s", self._stage, "" if is_first else ", not first", error
            )
            with self._crew.saving() if self._crew.is_main else nullcontext():
                self._rescue(error)
                self._wait_for_checkpoint(error)
            self._tell_error(error)
            self._record_end(error=error)
            raise
        finally:
            self._close(grace_seconds)

    def _train(self) -> str:
        with self.spent.on("start-up"):
            self._trainer = self._assemble()
        self._stage = "training"
        reason = self._trainer.run_to_the_end()
        self._stage = "export"
        self._finish(self._trainer, reason)
        return reason

    def _assemble(self) -> Trainer:
        self._start()
        self._stage = "data"
        is_first_here = self._crew.place.local_rank == 0
        if not is_first_here:
            self._crew.together("the scan of the data")  # its headers are known then, on this machine
        found = self._assembly.find_data()
        if is_first_here:
            self._crew.together("the scan of the data")
        require_same_data(self._crew, found)
        self._stage = "model"
        trainer = self._assembly.build_trainer(found)
        if self._profile is not None:
            self._profile.attach(trainer)
        return trainer

    def _start(self) -> None:
        folder, step, marked = self._folder, 0, marked_step(self._folder.path)
        for problem in folder.passed_over:
            log.warning("passed over a damaged checkpoint: %s", problem)
        if folder.checkpoint is not None:
            step = folder.checkpoint.step
            self._compare_with(folder.checkpoint.toml("config.toml"))
            log.info(
                "resumed step=%d lost=%d (%s from %s)",
                step,
                max(marked - step, 0),
                self.run.name,
                folder.checkpoint.path,
            )
        elif marked:
            log.warning(
                "starting at step 0 lost=%d (%s was stopped before its first checkpoint)", marked, self.run.name
            )
        log.info("plugins:%s", "".join(f"\n{line}" for line in fact_lines(plugin_facts(self._bus))) or " none")
        if left_out := [entry.use for entry in self.config.plugins if not entry.enabled]:
            log.info("plugins that are left out (enabled = false, or --no-plugins): %s", ", ".join(left_out))
        log.info("plan:%s", "".join(f"\n{line}" for line in plan_lines(self._bus)) or " no plugin handles anything")
        if self._crew.are_several:
            train, count = self.config.train, self._crew.count
            log.info(
                "%d processes (%s): a step has %d batches of %d pictures, each process %d",
                count, self.config.distributed.strategy, count * train.accumulate, train.batch_size, train.accumulate,
            )  # fmt: skip
            self._crew.require_same("config", to_toml(self.config).splitlines())
            plan = [*plan_lines(self._bus, with_sources=False), *code_lines(plugin_facts(self._bus))]
            self._crew.require_same("plan", plan)
        if self._crew.is_main:
            (folder.path / "config.toml").write_text(to_toml(self.config), encoding="utf-8")
            self._recorder.begin(first_step=step, steps=self.run.steps)
        if self._bus[RUN_START].chain:
            tables: Any = MappingProxyType(self.config.model_dump(mode="json"))
            self._bus[RUN_START].emit(RunStart(run=self.run, config=tables, resumed_step=step, control=self._control))

    def _compare_with(self, stored: dict[str, Any]) -> None:
        changed = list(differences(stored, tomli.loads(to_toml(self.config))))
        if changed:
            log.info("changed since the checkpoint:%s", "".join(f"\n  {line}" for line in change_lines(changed)))
        refuse_unsafe(changed)

    def _finish(self, trainer: Trainer, reason: str) -> None:
        """Export a complete run, let the lanes come to their end, and say that it is over."""
        if reason == COMPLETE and self.config.export.at_end:
            trainer.artefacts.export(trainer.position.step)
        with self.spent.on("lanes blocked"):
            self._bus.lanes.drain()
        self._bus.surface_async_failures()
        if self._bus[RUN_END].chain:
            seconds = self.spent.total_seconds()
            self._bus[RUN_END].emit(RunEnd(run=self.run, step=trainer.position.step, reason=reason, seconds=seconds))
        self.interruption.agree(self._crew)

    def _tell_error(self, error: BaseException) -> None:
        if self._bus[RUN_ERROR].chain:
            self._bus[RUN_ERROR].emit(RunError(run=self.run, step=self._step, error=error, where=self._stage))

    def _record_end(self, *, reason: str = "", error: BaseException | None = None) -> None:
        """Before run.close, whose handlers may want to read it."""
        if not self._crew.is_main:
            return
        self._recorder.end(
            step=self._step, seconds=self.spent.seconds(), reason=reason, error=error, stage=self._stage,
            exit_code=self.interruption.exit_code if error is None else exit_code_of(error),
        )  # fmt: skip

    @property
    def _step(self) -> int:
        return self._trainer.position.step if self._trainer else 0

    def _rescue(self, error: BaseException) -> None:
        """Save what was trained when the error left it whole, so that nothing is lost."""
        if self._trainer is None or self._stage != "training" or not self._trainer.can_be_saved:
            return
        if not (isinstance(error, PluginError | DataError | OutOfMemoryError) or is_of_another_rank(error)):
            return
        if not self._crew.is_main:
            return
        if self._trainer.device.is_cuda and is_of_another_rank(error):
            log.error(
                "steps since the last checkpoint are not saved: on GPUs nothing says whether the last of them were whole"
            )
            return
        self._trainer.metrics.leave_crew()
        self._trainer.artefacts.leave_crew()
        self._bus.join(ALONE)  # so that no handler waits for a rank that has ended
        self._bus.lanes.drain()
        self._bus.log_async_failures()  # which would keep the run from being saved; it ends anyway
        try:
            self._trainer.artefacts.save_last(self._trainer.position, self._trainer.metrics, "saved after an error")
        except Exception as second:  # the first is what is told
            log.error("no checkpoint could be saved after the error: %s", second)

    def _wait_for_checkpoint(self, error: BaseException) -> None:
        """Let a checkpoint that is being written become whole, unless the user wants to be gone now."""
        if self._trainer is None or isinstance(error, KeyboardInterrupt):
            return
        written = self._trainer.artefacts.writer.outcome(wait=True)
        if written is not None and written.error is not None:
            why = "another process has ended meanwhile" if is_broken_contact(written.error) else written.error
            log.error("the checkpoint of step %d was not saved: %s", written.job.step, why)

    def _close(self, grace_seconds: float) -> None:
        if self._profile is not None:
            self._profile.close()
        self._assembly.close()
        if self._bus[RUN_CLOSE].chain:
            self._bus[RUN_CLOSE].emit(RunClose(run=self.run))
        self._bus.close(grace_seconds=grace_seconds)


def is_of_another_rank(error: BaseException) -> bool:
    """Whether another process of the run has ended, for a reason that leaves this one's weights and place whole."""
    if isinstance(error, OtherRankError):
        return error.exit_code in RESCUED
    return isinstance(error, LostRankError)


RESCUED = (DataError.exit_code, PLUGIN_EXIT_CODE, OutOfMemoryError.exit_code, LostRankError.exit_code)
"""Exit codes of errors after which what was trained is saved."""


GRACE_SECONDS, FAILED_GRACE_SECONDS = 60.0, 5.0
"""How long async handlers may take to come to their end, after a run and after an error."""


def _newest(folder: Path) -> Path | None:
    """The subfolder of the highest step."""
    found = [path for path in folder.glob("*step-*") if path.is_dir()]
    return max(found, key=lambda path: int(path.name.rpartition("-")[2]), default=None)
