"""Put a run together, in the order of the catalogue's map: data, model, composed step, checkpoint."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType

import torch
from torch import nn
from torch.optim import Optimizer

from events.bus import Bus
from events.catalogue import BUILD_OPTIMIZER, BUILD_SCHEDULE, MODEL_READY
from events.control import Control
from events.payloads import (
    AdapterNames,
    LiveState,
    ModelContext,
    ModelReady,
    ParameterGroup,
    RunInfo,
    StepParts,
)

from ..attached.plan_text import plan_lines
from ..cache.caches import Caches
from ..cache.parts import CacheParts
from ..checkpoint.writer import Writer
from ..compute.device import Device, channels_innermost
from ..compute.idle import IdleModules
from ..config.tables import Config, ModelTable, PluginSource
from ..data.loader import Loader
from ..data.maker import MakerSettings, SampleMaker
from ..data.samples import Missing, SampleRoom
from ..data.sets import DataSet, DataSets, FoundSets, count_buckets, find_sets, prepare_sets
from ..families import Family, load_family, require_exportable, trained_modules
from ..history.recording import Recorder
from ..preview.previews import LiveSampler, Previews
from ..ranks.crew import ONE, Crew
from ..ranks.divisible import make_sharding
from ..resuming.plugin_states import PluginStates
from ..resuming.position import Position
from ..resuming.run_state import RunState
from ..run_folder.folder import RunFolder
from ..run_folder.step_mark import StepMark
from ..step.closed import Step
from ..step.fused_backward import FusedBackward
from ..step.learning_rate import learning_rate_factor, rate_lines
from ..step.metrics import MetricsRing
from ..step.objective import compose_objective
from ..step.optimizer import make_optimizer
from ..step.update import FusedUpdate, PlainUpdate, Update
from ..timing.spent import TimeSpent
from ..weights.export import DTYPES
from .artefacts import Artefacts
from .building import build_trained
from .trainer import Trainer
from .validation import Validation, measuring

ITEMS = "items"
"""The folder of the tables that loader workers map, within the run's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What training changes."""

    modules: dict[str, nn.Module]
    """By name, without accelerate's wrappers."""
    groups: tuple[ParameterGroup, ...]
    optimizer: Optimizer


@dataclass(slots=True, kw_only=True)
class Assembly:
    """Builds the parts of a run, and closes again what has been opened."""

    config: Config
    run: RunInfo
    bus: Bus
    control: Control
    plugins: PluginSource
    folder: RunFolder
    trace: Path | None
    spent: TimeSpent
    crew: Crew = ONE
    recorder: Recorder | None = None
    """Writes what the run trains on, for those who look at it later."""
    accept_data_change: bool = False
    """Go on though the data is not what the checkpoint was made with."""
    _device: Device | None = None
    _loaders: list[Loader] = field(default_factory=list)
    _caches: Caches | None = None
    _idle: IdleModules | None = None
    _mark: StepMark | None = None
    idle: tuple[str, ...] = ()
    """Encoders that are off the device between uses, since the caches hold what they make."""

    def find_data(self) -> FoundSets:
        """Scan, where others wait for this one's headers; what ranks that were killed have left behind goes first."""
        for left in self.folder.path.glob(f"{ITEMS}-rank-*") if self.crew.is_main else ():
            shutil.rmtree(left, ignore_errors=True)
        return find_sets(self.bus, self.run, self.config)

    def build_trainer(self, found: FoundSets) -> Trainer:
        """Load the model, compose the step and take back the checkpoint, if there is one."""
        config, (family, device, sets, trained) = self.config, self._load(found)
        self._record(sets)
        metrics = MetricsRing(device.device, config.log.every_steps, self.crew)
        step = self._compose_step(family, device, trained, metrics)
        live = LiveState(
            modules=MappingProxyType(family.modules),
            optimizer=trained.optimizer,
            measure=measuring(step, family.modules),
            lockstep=device.sharding is not None,
        )
        if self.bus[MODEL_READY].chain:
            self.bus[MODEL_READY].emit(
                ModelReady(run=self.run, modules=live.modules, optimizer=trained.optimizer, groups=trained.groups)
            )
        step.begin()
        loaders = self._make_loaders(sets, family, device)
        validation = Validation(
            config=config, run=self.run, bus=self.bus, family=family, device=device, step=step,
            sets=sets.validation,
            loaders={name: loader for name, loader in loaders.items() if name}, crew=self.crew,
            lockstep=device.sharding is not None,
        )  # fmt: skip
        artefacts = self._make_artefacts(sets, family, device, trained, validation)
        position = Position()
        if self.folder.checkpoint is not None:
            position = artefacts.load(self.folder.checkpoint, metrics)
        artefacts.require_room()
        self.crew.together("assembly of the run")
        self._mark = StepMark(self.folder.path) if self.crew.is_main else StepMark(None)
        return Trainer(
            config=config, run=self.run, bus=self.bus, control=self.control, device=device, data=sets.training,
            loader=loaders[""], step=step, metrics=metrics, live=live, position=position, artefacts=artefacts,
            mark=self._mark, spent=self.spent, crew=self.crew,
        )  # fmt: skip

    def _record(self, sets: DataSets) -> None:
        if self.recorder is not None:
            self.recorder.data(
                items=len(sets.training.items), without_caption=sets.without_caption,
                buckets=count_buckets(sets.training), problems=sets.problems,
                validation={name: len(one.items) for name, one in sets.validation.items()},
            )  # fmt: skip

    def open_caches(self, found: FoundSets) -> Caches:
        """The caches as training would use them, before anything is encoded."""
        family, device, sets, _ = self._load(found)
        makers = {name: self._make_maker(one, family, validation=bool(name)) for name, one in sets.named().items()}
        return self._make_caches(makers, family, device)

    def close(self) -> None:
        """End the workers and forget the device."""
        for loader in self._loaders:
            loader.close()
        if self._caches is not None:
            self._caches.close()
        if self._mark is not None:
            self._mark.close()
        if self._device is not None:
            self._device.close()
        if not self.crew.is_main:
            shutil.rmtree(self._items, ignore_errors=True)

    def _load(self, found: FoundSets) -> tuple[Family, Device, DataSets, Trained]:
        """The model on its device, and the data at the sizes that it takes."""
        device = self._device = Device(
            self.config.train, self.crew, timeout_seconds=self.config.distributed.timeout_seconds
        )
        device.sharding = make_sharding(self.config, device.device, self.crew, self.bus.running)
        require_exportable(self._model, self.config.export)
        family = load_family(self._model, seed=self.run.seed, max_tokens=self.config.data.max_tokens)
        sets = prepare_sets(found, family, self.config, self.bus, self.run, self._items)
        self.crew.together("loading of the model")  # the rest is done by all at once
        return family, device, sets, self._prepare(family, device)

    @property
    def _items(self) -> Path:
        """The folder of the tables that loader workers map; that of another rank is there for as long as it runs."""
        return self.folder.path / (ITEMS if self.crew.is_main else f"{ITEMS}-rank-{self.crew.rank}")

    def _context(self, names: AdapterNames) -> ModelContext:
        return ModelContext(run=self.run, trained=self._trained, steps=self.run.steps, names=names)

    @property
    def _trained(self) -> tuple[str, ...]:
        return trained_modules(self._model)

    @property
    def _model(self) -> ModelTable:
        return self.folder.model(self.config.model)

    def _prepare(self, family: Family, device: Device) -> Trained:
        """Compose modules, groups and optimizer, and bring them to the device."""
        config, names = self.config, self._trained
        groups = build_trained(self.bus, family, self._context(family), config.train)
        family.to(device.device)
        for name, module in family.modules.items():
            kind = config.model.vae_dtype if name == family.image_encoder else config.model.dtype
            keep_in(module, DTYPES[kind])
            if device.sharding is None or name not in names:
                module.to(device.device)
        channels_innermost(family.modules[family.image_encoder])  # a VAE encodes in two thirds of the time on the CPU
        if device.sharding is not None:
            groups = device.sharding.divide({name: family.modules[name] for name in names}, groups)
        optimizer = self.bus[BUILD_OPTIMIZER].compose(make_optimizer(groups, config.train), self._context(family))
        bare = {name: family.modules[name] for name in names}
        for name in names:
            family.modules[name] = device.prepare(family.modules[name])
        if self.config.distributed.strategy == "deepspeed" and self.crew.are_several:
            from ..ranks.deepspeed import Engine

            device.engine = Engine(self.config, device.device, groups, optimizer)
            optimizer = device.engine.optimizer
        return Trained(modules=bare, groups=groups, optimizer=optimizer)

    def _compose_step(self, family: Family, device: Device, trained: Trained, metrics: MetricsRing) -> Step:
        settings = self.config.train
        factor = self.bus[BUILD_SCHEDULE].compose(learning_rate_factor(settings), self._context(family))
        if self.crew.are_several:
            lines = list(rate_lines(trained.groups, factor, self.run.steps))
            self.crew.require_same("optimizer", lines)
        parts = StepParts(run=self.run, schedule=family.schedule, steps=self.run.steps, device=device.device)
        return Step(
            family=family, objective=compose_objective(self.bus, parts), device=device, optimizer=trained.optimizer,
            update=self._make_update(device, trained), groups=trained.groups, factor=factor, seed=self.run.seed,
            metrics=metrics, trains_text=any(name in self._trained for name in family.text_encoders),
            compiled=settings.compile,
        )  # fmt: skip

    def _make_update(self, device: Device, trained: Trained) -> Update:
        settings, optimizer = self.config.train, trained.optimizer
        if settings.fused_backward:
            fused = FusedBackward(optimizer, settings, processes=device.accelerator.num_processes)
            return FusedUpdate(device, optimizer, fused)
        if device.engine is not None:
            from ..ranks.deepspeed import DeepSpeedUpdate

            return DeepSpeedUpdate(device.engine, device)
        return PlainUpdate(device, optimizer, trained.groups, settings.clip_norm)

    def _make_loaders(self, sets: DataSets, family: Family, device: Device) -> dict[str, Loader]:
        """By data set, the one that is trained on being ""; caches are filled first."""
        makers = {name: self._make_maker(one, family, validation=bool(name)) for name, one in sets.named().items()}
        caches = self._make_caches(makers, family, device)
        with self.spent.on("caching"):
            caches.fill()
        self._idle = IdleModules(family.modules, device.device)
        self.idle = tuple(self._find_idle(sets, family, caches)) if self.config.cache.offload else ()
        self._idle.rest(self.idle)
        loaders = {}
        for name, maker in makers.items():
            room = SampleRoom(
                maker, family.tokenize, caches.latents(name), caches.text,
                trims=family.ignores_padding and not self.config.train.compile,  # which is compiled for one length
            )  # fmt: skip
            loader = Loader(
                room,
                self.config.data,
                pin_memory=device.is_cuda,
                bus=self.bus,
                refill=partial(self._refill, caches, name, room),
            )
            loaders[name] = loader
            self._loaders.append(loader)
        return loaders

    def _refill(self, caches: Caches, name: str, room: SampleRoom, missing: Missing) -> None:
        """Make what a batch misses; where the disk does not take it, the room makes batches without caches."""
        assert self._idle is not None
        with self._idle.awake():
            is_refilled = caches.refill(missing, name)
        if not is_refilled:
            room.do_without_caches()
            self._idle.wake()

    def _find_idle(self, sets: DataSets, family: Family, caches: Caches) -> Iterator[str]:
        """Encoders that every data set can do without, and that are not trained."""
        if all(caches.latents(name) is not None for name in sets.named()):
            yield family.image_encoder
        if caches.text is not None:
            yield from family.text_encoders

    def _make_caches(self, makers: dict[str, SampleMaker], family: Family, device: Device) -> Caches:
        parts = CacheParts(
            config=self.config, run=self.run, bus=self.bus, control=self.control, family=family, device=device,
            trained=self._trained, crew=self.crew,
        )  # fmt: skip
        self._caches = Caches(parts, makers, family.tokenize)
        return self._caches

    def _make_maker(self, data: DataSet, family: Family, *, validation: bool) -> SampleMaker:
        log = self.config.log
        settings = MakerSettings(
            seed=self.run.seed, data=self.config.data, latent_scale=family.latent_scale, time_plugins=log.time_plugins,
            guard_plugins=log.guard_plugins,
            slow_seconds=log.slow_seconds, trace=self.trace, ranks=self.crew.place, validation=validation,
        )  # fmt: skip
        return SampleMaker(data.items, data.geometry, settings, self.plugins, self.bus.running)

    def _make_artefacts(
        self, sets: DataSets, family: Family, device: Device, trained: Trained, validation: Validation
    ) -> Artefacts:
        config, multiple = self.config, family.pixel_multiple
        side = max(multiple, max(config.data.resolution) // multiple * multiple)
        sampler = LiveSampler(
            family, device.device, config.preview.batch_size, self._idle, lockstep=device.sharding is not None
        )
        previews = Previews(
            bus=self.bus, run=self.run, settings=config.preview, items=sets.training.items, sampler=sampler, side=side,
            multiple=multiple, crew=self.crew, lockstep=device.sharding is not None,
        )  # fmt: skip
        state = RunState(
            config=config, run=self.run, family=family, trained=trained.modules, optimizer=trained.optimizer,
            groups=trained.groups, step=validation.step, validation=validation, plugins=PluginStates(self.bus),
            plan_lines=tuple(plan_lines(self.bus)), items=sets.training.items,
            processes=self.crew.count, accept_data_change=self.accept_data_change,
        )  # fmt: skip
        return Artefacts(
            config=config, run=self.run, bus=self.bus, control=self.control, state=state, previews=previews,
            writer=Writer(self.folder.checkpoints(config.checkpoint)), spent=self.spent, device=device,
            crew=self.crew,
        )  # fmt: skip


def keep_in(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Weights that are not trained in `dtype`, but for those that their library keeps in float32."""
    if dtype is torch.float32:
        return module
    kept = tuple(getattr(module, "_keep_in_fp32_modules", None) or ())
    for name, weight in module.named_parameters():
        if (
            not weight.requires_grad
            and weight.is_floating_point()
            and not any(part in kept for part in name.split("."))
        ):
            weight.data = weight.data.to(dtype)
    return module
