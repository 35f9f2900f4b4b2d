"""The model as training would put it together, of modules without values: names, shapes, plugins, groups, optimizer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from events.bus import Bus
from events.catalogue import BUILD_SCHEDULE
from events.errors import PluginError
from events.payloads import ModelContext, ParameterGroup, StepParts

from ..config.tables import Config, ModelTable
from ..families import find_family, load_without_weights, name_of, require_exportable, trained_modules
from ..ranks.arithmetic import Sizes
from ..report.survey import run_info
from ..resuming.trained_weights import expected_bytes, trained_weights
from ..run.building import build_trained
from ..run_folder.folder import current_folder
from ..step.learning_rate import learning_rate_factor
from ..step.objective import compose_objective
from ..step.optimizer import make_optimizer
from ..weights.export import DTYPES
from .findings import Findings


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What training would change, without its values."""

    weights: Mapping[str, Tensor]
    """By the names that they have in checkpoints."""
    checkpoint_bytes: int
    sizes: Sizes


def look_at_model(config: Config, table: ModelTable, bus: Bus, found: Findings) -> Built | None:
    """Load the model without its weights and hand it through the builds; None where a plugin needs values for that.

    Raises ConfigError for what training would refuse, and PluginError for a plugin that fails.
    """
    named = f"{table.path} (family {name_of(find_family(table))}), training {', '.join(trained_modules(table))}"
    require_exportable(table, config.export)
    run = run_info(config, current_folder(config))
    family = load_without_weights(table, config.data.max_tokens)
    context = ModelContext(run=run, trained=trained_modules(table), steps=run.steps, names=family)
    try:
        groups = build_trained(bus, family, context, config.train)
        bus[BUILD_SCHEDULE].compose(learning_rate_factor(config.train), context)
        parts = StepParts(run=run, schedule=family.schedule, steps=run.steps, device=torch.device("cpu"))
        compose_objective(bus, parts)
    except PluginError as error:
        if not _needs_values(error.__cause__):
            raise
        found.say("model", f"{named}; how {error.plugin} changes it is not known before its weights are read")
        return None
    optimizer = make_optimizer(tuple(map(_stand_in, groups)), config.train)
    weights = trained_weights({name: family.modules[name] for name in context.trained})
    found.say("model", f"{named}: {_counted(groups)}")
    expected = expected_bytes(weights, optimizer, groups)
    modules = [family.modules[name] for name in context.trained]
    sizes = _sizes(modules, groups, DTYPES[table.dtype], expected - sum(tensor.nbytes for tensor in weights.values()))
    return Built(weights=weights, checkpoint_bytes=expected, sizes=sizes)


def _sizes(
    modules: Sequence[nn.Module], groups: Sequence[ParameterGroup], kept_in: torch.dtype, state_bytes: int
) -> Sizes:
    """`kept_in` is the type of weights that are not trained."""
    trained = sum(weight.numel() for group in groups for weight in group.parameters.values())
    frozen = sum(weight.numel() for module in modules for weight in module.parameters()) - trained
    return Sizes(trained=trained, frozen=frozen, frozen_bytes=frozen * kept_in.itemsize, state_bytes=state_bytes)


def _needs_values(cause: BaseException | None) -> bool:
    """Whether a plugin failed since the modules have no values; torch then says so, or has no such operation."""
    return isinstance(cause, RuntimeError) or "meta" in str(cause).lower()


def _stand_in(group: ParameterGroup) -> ParameterGroup:
    """The group with a value for each of its parameters, for an optimizer that looks at devices and dimensions."""
    parameters = {name: nn.Parameter(torch.zeros([1] * weight.ndim)) for name, weight in group.parameters.items()}
    return replace(group, parameters=parameters)


def _counted(groups: Sequence[ParameterGroup]) -> str:
    sizes = {group.name: sum(weight.numel() for weight in group.parameters.values()) / 1e6 for group in groups}
    return ", ".join(f"{size:,.2f} million weights in {name}" for name, size in sizes.items())
