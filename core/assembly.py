"""Put a run together, in the order of the catalogue's map: data, model, composed step, checkpoint."""

from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from torch import nn
from torch.optim import Optimizer

from events.bus import Bus
from events.catalogue import (
    BUILD_MODEL,
    BUILD_OPTIMIZER,
    BUILD_PARAMETERS,
    BUILD_SCHEDULE,
    MODEL_LOADED,
    MODEL_READY,
)  # fmt: skip
from events.control import Control
from events.payloads import LiveState, ModelContext, ModelLoaded, ModelReady, ParameterGroup, RunInfo, StepParts

from .artefacts import Artefacts
from .config import Config, PluginSource
from .data.buckets import Size
from .data.items import assign_buckets, find_items
from .data.loader import Loader
from .data.samples import SampleRoom, SampleSettingsOfRun
from .data.scan import Scan
from .device import Device
from .families import Family, load_family
from .metrics import MetricsRing
from .objective import compose_objective
from .optimisation import learning_rate_factor, make_optimizer, parameter_groups
from .plan_text import plan_lines
from .position import Position
from .preview import LiveSampler, Previews
from .run_folder import RunFolder
from .step import Step
from .trainer import Trainer


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
    _device: Device | None = None
    _loader: Loader | None = None

    def find_data(self) -> Scan:
        return find_items(self.bus, self.run, self.config.data)

    def build_trainer(self, found: Scan) -> Trainer:
        """Load the model, compose the step and take back the checkpoint, if there is one."""
        config, device = self.config, Device(self.config.train)
        self._device = device
        family = load_family(config.model, seed=self.run.seed)
        sizes = assign_buckets(found, family.pixel_multiple, config.data, self.bus, self.run)
        trained = self._prepare(family, device)
        metrics = MetricsRing(device.device, config.log.every_steps)
        step = self._compose_step(family, device, trained, metrics)
        live = LiveState(modules=MappingProxyType(family.modules), optimizer=trained.optimizer)
        if self.bus[MODEL_READY].chain:
            self.bus[MODEL_READY].emit(
                ModelReady(run=self.run, modules=live.modules, optimizer=trained.optimizer, groups=trained.groups)
            )
        loader = self._loader = self._make_loader(found, sizes, family, device)
        artefacts = self._make_artefacts(found, family, device, trained)
        position = Position()
        if self.folder.checkpoint is not None:
            position = artefacts.load(self.folder.checkpoint, metrics)
        return Trainer(
            config=config, run=self.run, bus=self.bus, control=self.control, device=device, items=found.items,
            sizes=sizes, loader=loader, step=step, metrics=metrics, live=live, position=position, artefacts=artefacts,
        )  # fmt: skip

    def close(self) -> None:
        """End the workers and forget the device."""
        if self._loader is not None:
            self._loader.close()
        if self._device is not None:
            self._device.close()

    def _context(self) -> ModelContext:
        return ModelContext(run=self.run, trained=self.config.model.train, steps=self.run.steps)

    def _prepare(self, family: Family, device: Device) -> Trained:
        """Compose modules, groups and optimizer, and bring them to the device."""
        config, names = self.config, self.config.model.train
        if self.bus[MODEL_LOADED].chain:
            modules = MappingProxyType(family.modules)
            self.bus[MODEL_LOADED].emit(
                ModelLoaded(run=self.run, modules=modules, tokenizers=family.tokenizers, schedule=family.schedule)
            )
        for name in names:
            family.modules[name].requires_grad_(True).train()
            if config.train.gradient_checkpointing:
                checkpoint_gradients(family.modules[name])
        family.modules = self.bus[BUILD_MODEL].compose(family.modules, self._context())
        family.to(device.device)
        groups = parameter_groups(family.modules, names, family.denoiser, config.train)
        groups = self.bus[BUILD_PARAMETERS].compose(groups, self._context())
        optimizer = self.bus[BUILD_OPTIMIZER].compose(make_optimizer(groups, config.train), self._context())
        bare = {name: family.modules[name] for name in names}
        for name in names:
            family.modules[name] = device.prepare(family.modules[name])
        return Trained(modules=bare, groups=groups, optimizer=optimizer)

    def _compose_step(self, family: Family, device: Device, trained: Trained, metrics: MetricsRing) -> Step:
        settings = self.config.train
        factor = self.bus[BUILD_SCHEDULE].compose(learning_rate_factor(settings), self._context())
        parts = StepParts(run=self.run, schedule=family.schedule, steps=self.run.steps, device=device.device)
        return Step(
            family=family, objective=compose_objective(self.bus, parts), device=device, optimizer=trained.optimizer,
            groups=trained.groups, factor=factor, clip_norm=settings.clip_norm, seed=self.run.seed, metrics=metrics,
            compiled=settings.compile,
        )  # fmt: skip

    def _make_loader(self, found: Scan, sizes: tuple[Size, ...], family: Family, device: Device) -> Loader:
        data, log = self.config.data, self.config.log
        settings = SampleSettingsOfRun(
            seed=self.run.seed, crop=data.crop, transparent=data.transparent, time_plugins=log.time_plugins,
            slow_seconds=log.slow_seconds, trace=self.trace,
        )  # fmt: skip
        room = SampleRoom(found.items, sizes, family.tokenize, settings, self.plugins)
        return Loader(room, data, pin_memory=device.is_cuda, bus=self.bus)

    def _make_artefacts(self, found: Scan, family: Family, device: Device, trained: Trained) -> Artefacts:
        config, multiple = self.config, family.pixel_multiple
        side = max(multiple, config.data.resolution // multiple * multiple)
        sampler = LiveSampler(family, device.device, config.preview.batch_size)
        previews = Previews(
            bus=self.bus, run=self.run, settings=config.preview, items=found.items, sampler=sampler, side=side
        )
        return Artefacts(
            config=config, run=self.run, bus=self.bus, family=family, trained=trained.modules,
            optimizer=trained.optimizer, groups=trained.groups, previews=previews,
            checkpoints=self.folder.checkpoints(config.checkpoint.keep), plan_lines=tuple(plan_lines(self.bus)),
        )  # fmt: skip


def checkpoint_gradients(module: nn.Module) -> None:
    """Recompute activations in the backward pass; diffusers and transformers name it differently."""
    for name in ("enable_gradient_checkpointing", "gradient_checkpointing_enable"):
        if hasattr(module, name):
            getattr(module, name)()
            return
