"""A checkpoint as a model: put together as the run does it, without data and without a step, and written as an export is."""

import logging
import tempfile
from collections.abc import Callable, Generator
from contextlib import ExitStack, chdir, contextmanager
from pathlib import Path

import torch
from torch import nn
from torch.optim import Optimizer

from events.bus import Bus
from events.catalogue import BUILD_OPTIMIZER, EXPORT_START, MODEL_READY
from events.payloads import ExportStart, ModelContext, ModelReady, ParameterGroup, RunInfo

from ..checkpoint.contents import Checkpoint
from ..config.tables import Config, PluginSource
from ..errors import ConfigError
from ..families import Family, load_family, trained_modules
from ..resuming.packing import unpack
from ..resuming.plugin_states import PluginStates
from ..resuming.run_state import OPTIMIZER, PLUGINS, STATE, WEIGHTS, in_words
from ..resuming.trained_weights import load_optimizer, require_same_weights, trained_weights
from ..run.assembly import keep_in
from ..run.building import build_trained
from ..run_folder.folder import RunFolder
from ..step.evaluation_weights import evaluation_weights, has_evaluation_weights
from ..step.optimizer import make_optimizer
from ..weights.export import DTYPES, Exporter
from .run import StoredRun

log = logging.getLogger("signalbox.model")
Assemble = Callable[[Config, Path], tuple[Bus, PluginSource]]
"""The sealed bus of a config whose file is at this path; handed in, since the core knows no plugins."""


@contextmanager
def exported(stored: StoredRun, assemble: Assemble, *, averaged: bool | None) -> Generator[Path, None, None]:
    """A folder with the checkpoint's model in float32, for as long as this lasts, as the stock pipeline loads it.

    `averaged`: with the averages that plugins and optimizers keep, without them, or as the run's exports have it, which
    is with them where there are any. Nothing is written into the run's folder. Raises ConfigError for averages that the
    run has not kept, CheckpointError where the checkpoint does not fit its own config any more.
    """
    with tempfile.TemporaryDirectory(prefix="signalbox-") as place:
        folder = Path(place)
        with chdir(stored.directory):
            _assemble_and_export(stored, assemble, folder, averaged=averaged)
        yield folder


def _assemble_and_export(stored: StoredRun, assemble: Assemble, folder: Path, *, averaged: bool | None) -> None:
    bus, _ = assemble(stored.config, stored.beside / "config.toml")
    try:
        _export(stored, bus, folder, averaged=averaged)
    finally:
        bus.close()


def _export(stored: StoredRun, bus: Bus, folder: Path, *, averaged: bool | None) -> None:
    config, checkpoint = stored.config, stored.checkpoint
    run = RunInfo(
        name=stored.folder.name, folder=folder, seed=config.run.seed, steps=config.train.steps, data_roots=()
    )  # fmt: skip
    family, optimizer, groups = _build(stored, bus, run)
    _take_back(checkpoint, bus, {name: family.modules[name] for name in trained_modules(config.model)})
    keeps = bool(bus[EXPORT_START].chain) or has_evaluation_weights(optimizer)
    if averaged and not keeps:
        raise ConfigError(
            "sample", [f"--ema: {run.name} keeps no average of its weights; plugins.ema.Ema in its config would"]
        )
    exporter = Exporter(
        bus=bus, run=run, family=family, modules=family.modules, settings=config.export.model_copy(update={"dtype": "fp32"})
    )  # fmt: skip
    with ExitStack() as stack:
        if averaged is not False:
            if has_evaluation_weights(optimizer):
                _load_optimizer(checkpoint, optimizer, groups, config)
            stack.enter_context(evaluation_weights(optimizer))
            if bus[EXPORT_START].chain:
                bus[EXPORT_START].emit(ExportStart(run=run, step=checkpoint.step))
        tensors = exporter.tensors(checkpoint.step)
        family.write(folder, tensors, {name: {} for name in tensors})


def _build(stored: StoredRun, bus: Bus, run: RunInfo) -> tuple[Family, Optimizer, tuple[ParameterGroup, ...]]:
    """Modules, groups and optimizer as the run begins with them, on the CPU."""
    config = stored.config
    table = RunFolder(path=stored.folder, status="unfinished", checkpoint=stored.checkpoint).model(config.model)
    family = load_family(table, seed=config.run.seed, max_tokens=config.data.max_tokens)
    context = ModelContext(run=run, trained=trained_modules(table), steps=config.train.steps, names=family)
    groups = build_trained(bus, family, context, config.train)
    for name, module in family.modules.items():
        keep_in(module, DTYPES[config.model.vae_dtype if name == family.image_encoder else config.model.dtype])
    optimizer = bus[BUILD_OPTIMIZER].compose(make_optimizer(groups, config.train), context)
    if bus[MODEL_READY].chain:
        bus[MODEL_READY].emit(ModelReady(run=run, modules=family.modules, optimizer=optimizer, groups=groups))
    return family, optimizer, groups


def _take_back(checkpoint: Checkpoint, bus: Bus, trained: dict[str, nn.Module]) -> None:
    """The checkpoint's weights, and the states of the plugins."""
    weights, own = checkpoint.tensors(WEIGHTS), trained_weights(trained)
    require_same_weights(own, weights, checkpoint.path)
    state, tensors = checkpoint.json(STATE), checkpoint.tensors(PLUGINS)
    with in_words(checkpoint):
        trees = {name: tree for name, tree in state["plugins"].items() if name in bus.plugins}
        PluginStates(bus).give_back({name: unpack(tree, tensors) for name, tree in trees.items()}, state["versions"])
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(weights[name])


def _load_optimizer(
    checkpoint: Checkpoint, optimizer: Optimizer, groups: tuple[ParameterGroup, ...], config: Config
) -> None:
    """What an optimizer that keeps weights for evaluation makes them from."""
    with in_words(checkpoint):
        saved = unpack(checkpoint.json(STATE)["optimizer"], checkpoint.tensors(OPTIMIZER))
        load_optimizer(optimizer, groups, saved, config.train.optimizer_options)
