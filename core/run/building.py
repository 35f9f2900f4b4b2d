"""What of a model is trained: scheduler, modules and parameter groups, after the plugins that have a say in them.

The modules may be without values, on torch's meta device, which is how `run.py check` looks at them.
"""

from types import MappingProxyType

from torch import nn

from events.bus import Bus
from events.catalogue import BUILD_MODEL, BUILD_PARAMETERS, BUILD_SCHEDULER, MODEL_LOADED
from events.payloads import ModelContext, ModelLoaded, ParameterGroup

from ..config.tables import TrainTable
from ..families import Family
from ..step.parameter_groups import parameter_groups


def build_trained(bus: Bus, family: Family, context: ModelContext, settings: TrainTable) -> tuple[ParameterGroup, ...]:
    """The groups; the family has the scheduler and the modules of the plugins from then on.

    Raises PluginError for a handler that fails, ConfigError for rules of `train.parameters` that match or leave nothing.
    """
    if bus[MODEL_LOADED].chain:
        modules = MappingProxyType(family.modules)
        bus[MODEL_LOADED].emit(
            ModelLoaded(run=context.run, modules=modules, tokenizers=family.tokenizers, schedule=family.schedule)
        )
    scheduler = bus[BUILD_SCHEDULER].compose(family.scheduler, context)
    if scheduler is not family.scheduler:
        family.use_scheduler(scheduler)
    for name in context.trained:
        family.modules[name].requires_grad_(True).train()
        if settings.gradient_checkpointing:
            checkpoint_gradients(family.modules[name])
    family.modules = bus[BUILD_MODEL].compose(family.modules, context)
    groups = parameter_groups(family.modules, context.trained, family.denoiser, settings)
    return bus[BUILD_PARAMETERS].compose(groups, context)


def checkpoint_gradients(module: nn.Module) -> None:
    """Recompute activations in the backward pass; diffusers and transformers name it differently."""
    names = ("enable_gradient_checkpointing", "activation_checkpointing_enable", "gradient_checkpointing_enable")
    for name in names:
        if hasattr(module, name):
            getattr(module, name)()
            return
