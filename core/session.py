"""One session of a run: assemble the parts, train, and whatever happens, end in good order.

The order of assembly is the order of the catalogue's map: config, data, model, composed step, checkpoint.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from types import MappingProxyType
from typing import Any

import tomli
import torch

from events.bus import Bus
from events.catalogue import (
    BUILD_MODEL,
    BUILD_OPTIMIZER,
    BUILD_PARAMETERS,
    BUILD_SCHEDULE,
    DATA_ITEMS,
    DATA_READY,
    MODEL_LOADED,
    MODEL_READY,
    RUN_CLOSE,
    RUN_CONFIGURE,
    RUN_END,
    RUN_ERROR,
    RUN_START,
)  # fmt: skip
from events.control import Control
from events.errors import ControlError, PluginError
from events.payloads import (
    ConfigureContext,
    DataContext,
    DataReady,
    Item,
    LiveState,
    ModelContext,
    ModelLoaded,
    ModelReady,
    ParameterGroup,
    RunClose,
    RunEnd,
    RunError,
    RunInfo,
    RunStart,
    StepParts,
)  # fmt: skip

from .artefacts import Artefacts
from .checkpoint import differences
from .config import Config, PluginSource
from .config_file import to_toml, validate
from .data.buckets import Size, generate_buckets, nearest_bucket
from .data.loader import Loader
from .data.samples import SampleRoom, SampleSettingsOfRun
from .data.scan import scan
from .device import Device
from .errors import ConfigError, DataError, TrainerError
from .families import Family, load_family
from .interrupt import stop_on_signals
from .log import log_to_file
from .metrics import MetricsRing
from .objective import compose_objective
from .optimisation import learning_rate_factor, make_optimizer, parameter_groups
from .plan_text import plan_lines
from .position import Position
from .preview import LiveSampler, Previews
from .run_folder import RunFolder, refuse_unsafe_changes
from .step import Step
from .trainer import COMPLETE, Trainer

log = logging.getLogger("signalbox.run")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a session ended and where its results lie."""

    reason: str
    step: int
    folder: Path
    exit_code: int
    grid: Path | None
    exported: Path | None
    seconds: float


class Session:
    """The life of one process of one run."""

    def __init__(
        self,
        config: Config,
        bus: Bus,
        plugins: PluginSource,
        folder: RunFolder,
        *,
        source: str,
        trace: Path | None = None,
    ) -> None:
        self._bus = bus
        self._plugins = plugins
        self._folder = folder
        self._trace = trace
        self._stage = "config"
        self._begun = perf_counter()
        self._trainer: Trainer | None = None
        self._device: Device | None = None
        self._loader: Loader | None = None
        self.config = self._configure(config, source)
        self.control = Control(dict.fromkeys(("train.accumulate",), _positive) | dict.fromkeys(SETTABLE, _count))
        self.run = RunInfo(
            name=folder.path.name,
            folder=folder.path,
            seed=self.config.run.seed,
            steps=self.config.train.steps,
            data_roots=tuple(str(root) for root in self.config.data.roots),
        )

    def execute(self) -> Outcome:
        """Train to the end, or to the first reason to stop. Raises what went wrong, after run.error and run.close."""
        self._folder.create()
        handler = log_to_file(self._folder.path / "log.jsonl")
        try:
            with stop_on_signals(self.control) as interruption:
                reason = self._run()
            assert self._trainer is not None
            artefacts = self._trainer.artefacts
            return Outcome(
                reason=reason, step=self._trainer.position.step, folder=self._folder.path,
                exit_code=interruption.exit_code, grid=artefacts.last_grid, exported=artefacts.exported,
                seconds=perf_counter() - self._begun,
            )  # fmt: skip
        finally:
            logging.getLogger().removeHandler(handler)
            handler.close()

    def _run(self) -> str:
        failed = True
        try:
            self._start()
            self._trainer = self._assemble()
            self._stage = "training"
            reason = self._trainer.train()
            self._stage = "export"
            if reason == COMPLETE and self.config.export.at_end:
                self._trainer.artefacts.export(self._trainer.position.step)
            self._bus.lanes.drain()
            self._bus.surface_async_failures()
            if self._bus[RUN_END].chain:
                step, seconds = self._trainer.position.step, perf_counter() - self._begun
                self._bus[RUN_END].emit(RunEnd(run=self.run, step=step, reason=reason, seconds=seconds))
            failed = False
            return reason
        except BaseException as error:
            log.error("the run ends with an error while %s: %s", self._stage, error)
            self._rescue(error)
            self._tell_error(error)
            raise
        finally:
            self._close(failed=failed)

    def _configure(self, config: Config, source: str) -> Config:
        """The config after run.configure, validated once more."""
        changed: Config = self._bus[RUN_CONFIGURE].apply(config, ConfigureContext(source=source))
        if changed is config:
            return config
        again, problems = validate(changed.model_dump(mode="json"))
        if again is None:
            raise ConfigError("a run.configure plugin", problems)
        return again

    def _start(self) -> None:
        folder, step = self._folder, 0
        for problem in folder.passed_over:
            log.warning("passed over a damaged checkpoint: %s", problem)
        if folder.checkpoint is not None:
            step = folder.checkpoint.step
            self._compare_with(tomli.loads(folder.checkpoint.text("config.toml")))
            log.info("resuming %s at step %d from %s", self.run.name, step, folder.checkpoint.path)
        (folder.path / "config.toml").write_text(to_toml(self.config), encoding="utf-8")
        if self._bus[RUN_START].chain:
            tables: Any = MappingProxyType(self.config.model_dump(mode="json"))
            self._bus[RUN_START].emit(RunStart(run=self.run, config=tables, resumed_step=step, control=self.control))

    def _compare_with(self, stored: dict[str, Any]) -> None:
        changed = list(differences(stored, tomli.loads(to_toml(self.config))))
        for key, old, new in changed:
            log.info("changed since the checkpoint: %s  %r -> %r", key, old, new)
        refuse_unsafe_changes(changed)

    def _assemble(self) -> Trainer:
        self._stage = "data"
        items, problems = self._items()
        self._stage = "model"
        device = self._device = Device(self.config.train)
        family = load_family(self.config.model, seed=self.run.seed)
        sizes = self._sizes(items, family.pixel_multiple)
        self._tell_data(items, sizes, problems)
        trained, optimizer, groups = self._prepare(family, device)
        factor = self._bus[BUILD_SCHEDULE].compose(learning_rate_factor(self.config.train), self._model_context())
        objective = compose_objective(
            self._bus, StepParts(run=self.run, schedule=family.schedule, steps=self.run.steps, device=device.device)
        )
        metrics = MetricsRing(device.device, self.config.log.every_steps)
        step = Step(
            family=family, objective=objective, device=device, optimizer=optimizer, groups=groups,
            factor=factor,
            clip_norm=self.config.train.clip_norm, seed=self.run.seed, metrics=metrics,
            compiled=self.config.train.compile,
        )  # fmt: skip
        live = LiveState(modules=MappingProxyType(family.modules), optimizer=optimizer)
        if self._bus[MODEL_READY].chain:
            self._bus[MODEL_READY].emit(
                ModelReady(run=self.run, modules=live.modules, optimizer=optimizer, groups=groups)
            )
        self._loader = self._make_loader(items, sizes, family, device)
        artefacts = self._artefacts(items, family, device, trained, optimizer, groups)
        position = Position()
        if self._folder.checkpoint is not None:
            position = artefacts.load(self._folder.checkpoint, metrics)
        return Trainer(
            config=self.config, run=self.run, bus=self._bus, control=self.control, device=device, items=items,
            sizes=sizes, loader=self._loader, step=step, metrics=metrics, live=live, position=position,
            artefacts=artefacts,
        )  # fmt: skip

    def _items(self) -> tuple[tuple[Item, ...], tuple[str, ...]]:
        data = self.config.data
        found = scan(data.roots, data.captions, data.max_bad_fraction)
        for problem in found.problems:
            log.warning("set aside: %s", problem)
        items = self._bus[DATA_ITEMS].apply(found.items, DataContext(roots=self.run.data_roots, seed=self.run.seed))
        if not items:
            raise DataError("no item is left after the data.items plugins")
        ids = {item.id for item in items}
        if len(ids) < len(items):
            raise DataError(f"{len(items) - len(ids)} items share an id with another after the data.items plugins")
        return items, found.problems

    def _sizes(self, items: tuple[Item, ...], multiple: int) -> tuple[Size, ...]:
        data = self.config.data
        buckets = generate_buckets(data.resolution, multiple, data.max_aspect)
        if not buckets:
            raise ConfigError(
                "config",
                [f"data.resolution  {data.resolution} is below {multiple}, the smallest side this model takes"],
            )
        return tuple(nearest_bucket((item.width, item.height), buckets) for item in items)

    def _tell_data(self, items: tuple[Item, ...], sizes: tuple[Size, ...], problems: tuple[str, ...]) -> None:
        counts = {size: sizes.count(size) for size in sorted(set(sizes))}
        shown = ", ".join(f"{width}x{height}: {count}" for (width, height), count in counts.items())
        log.info("%d pictures in %d buckets (%s), %d set aside", len(items), len(counts), shown, len(problems))
        if self._bus[DATA_READY].chain:
            self._bus[DATA_READY].emit(
                DataReady(run=self.run, items=items, buckets=MappingProxyType(counts), problems=problems)
            )

    def _model_context(self) -> ModelContext:
        return ModelContext(run=self.run, trained=self.config.model.train, steps=self.run.steps)

    def _prepare(
        self, family: Family, device: Device
    ) -> tuple[dict[str, torch.nn.Module], torch.optim.Optimizer, tuple[ParameterGroup, ...]]:
        """Compose modules, groups and optimizer; returns the trained modules without wrappers beside the latter two."""
        if self._bus[MODEL_LOADED].chain:
            self._bus[MODEL_LOADED].emit(
                ModelLoaded(
                    run=self.run, modules=MappingProxyType(family.modules), tokenizers=family.tokenizers,
                    schedule=family.schedule,
                )
            )  # fmt: skip
        for name in self.config.model.train:
            family.modules[name].requires_grad_(True).train()
            if self.config.train.gradient_checkpointing:
                _checkpoint_gradients(family.modules[name])
        family.modules = self._bus[BUILD_MODEL].compose(family.modules, self._model_context())
        for name, module in family.modules.items():
            family.modules[name] = module.to(device.device)
        groups = parameter_groups(family.modules, self.config.model.train, family.denoiser, self.config.train)
        groups = self._bus[BUILD_PARAMETERS].compose(groups, self._model_context())
        optimizer = self._bus[BUILD_OPTIMIZER].compose(make_optimizer(groups, self.config.train), self._model_context())
        trained = {name: family.modules[name] for name in self.config.model.train}
        for name in self.config.model.train:
            family.modules[name] = device.prepare(family.modules[name])
        family.to(device.device)
        return trained, optimizer, groups

    def _make_loader(self, items: tuple[Item, ...], sizes: tuple[Size, ...], family: Family, device: Device) -> Loader:
        config = self.config
        settings = SampleSettingsOfRun(
            seed=self.run.seed, crop=config.data.crop, transparent=config.data.transparent,
            time_plugins=config.log.time_plugins, slow_seconds=config.log.slow_seconds, trace=self._trace,
        )  # fmt: skip
        room = SampleRoom(items, sizes, family.tokenize, settings, self._plugins)
        return Loader(room, config.data, pin_memory=device.is_cuda, bus=self._bus)

    def _artefacts(
        self, items: tuple[Item, ...], family: Family, device: Device, trained: dict[str, torch.nn.Module],
        optimizer: torch.optim.Optimizer, groups: tuple[ParameterGroup, ...],
    ) -> Artefacts:  # fmt: skip
        config = self.config
        side = max(family.pixel_multiple, config.data.resolution // family.pixel_multiple * family.pixel_multiple)
        sampler = LiveSampler(family, device.device, config.preview.batch_size)
        previews = Previews(
            bus=self._bus, run=self.run, settings=config.preview, items=items, sampler=sampler, side=side
        )
        return Artefacts(
            config=config, run=self.run, bus=self._bus, family=family, trained=trained, optimizer=optimizer,
            groups=groups, checkpoints=self._folder.checkpoints(config.checkpoint.keep), previews=previews,
            plan_lines=tuple(plan_lines(self._bus)),
        )  # fmt: skip

    def _tell_error(self, error: BaseException) -> None:
        if self._bus[RUN_ERROR].chain:
            step = self._trainer.position.step if self._trainer else 0
            self._bus[RUN_ERROR].emit(RunError(run=self.run, step=step, error=error, where=self._stage))

    def _rescue(self, error: BaseException) -> None:
        """Save what was trained when the error came from outside the step, so that nothing is lost."""
        if self._trainer is None or self._stage != "training" or not isinstance(error, PluginError | DataError):
            return
        try:
            self._trainer.artefacts.save(self._trainer.position, self._trainer.metrics, "saved after an error")
        except (TrainerError, PluginError, OSError) as second:
            log.error("no checkpoint could be saved after the error: %s", second)

    def _close(self, *, failed: bool) -> None:
        if self._loader is not None:
            self._loader.close()
        if self._bus[RUN_CLOSE].chain:
            self._bus[RUN_CLOSE].emit(RunClose(run=self.run))
        self._bus.close(grace_seconds=5.0 if failed else 60.0)
        if self._device is not None:
            self._device.close()


SETTABLE = ("checkpoint.every_steps", "preview.every_steps")


def _checkpoint_gradients(module: torch.nn.Module) -> None:
    """diffusers and transformers name the same thing differently."""
    for name in ("enable_gradient_checkpointing", "gradient_checkpointing_enable"):
        if hasattr(module, name):
            getattr(module, name)()
            return


def _positive(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ControlError(f"expected a whole number of at least 1, got {value!r}")
    return value


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ControlError(f"expected a whole number of at least 0, got {value!r}")
    return value
