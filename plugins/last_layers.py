"""Train only the last layers of a module, such as a text encoder's."""

from typing import TYPE_CHECKING

from pydantic import Field, PositiveInt

from events import Plugin, PluginSettings, build
from events.payloads import ModelContext

if TYPE_CHECKING:
    from torch import nn


class LastLayers(Plugin):
    """Freeze a trained module but for the last `layers` of its longest list of layers, and what is behind them.

    Of CLIP's text encoder the norm after the last layer is trained too, its embeddings are not. `[[train.parameters]]`
    says the same of any names; this counts layers.
    """

    class Settings(PluginSettings):
        module: str = Field("text_encoder", description="one of model.train")
        layers: PositiveInt = Field(description="how many are trained, counted from the end")
        norm: bool = Field(True, description="train the norms after the last layer too")

    @build("model")
    def freeze(self, modules: "dict[str, nn.Module]", context: ModelContext) -> "dict[str, nn.Module]":
        """Raises ValueError for a module that is not trained, and for more layers than it has."""
        name, count = self.settings.module, self.settings.layers
        if name not in context.trained:
            raise ValueError(f"module = {name!r} is none of model.train, {', '.join(context.trained)}")
        layers = longest_list(modules[name])
        if count > len(layers):
            raise ValueError(f"layers = {count}, but {name} has {len(layers)}")
        modules[name].requires_grad_(False)
        for layer in list(layers)[-count:]:
            layer.requires_grad_(True)
        if self.settings.norm:
            for place, part in modules[name].named_modules():
                if place.rpartition(".")[2] in ("final_layer_norm", "norm_out", "norm") and "layers" not in place:
                    part.requires_grad_(True)
        return modules


def longest_list(module: "nn.Module") -> "nn.ModuleList":
    """The first of the longest module lists within. Raises ValueError where there is none."""
    from torch import nn

    found = [part for part in module.modules() if isinstance(part, nn.ModuleList)]
    if not found:
        raise ValueError(f"{type(module).__name__} has no list of layers")
    return max(found, key=len)
