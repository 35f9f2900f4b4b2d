"""A finished adapter becomes part of the model before training begins."""

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from core.weights.files import adapter_problem
from events import Plugin, PluginSettings, build
from events.payloads import ModelContext

if TYPE_CHECKING:
    from torch import nn


class MergeLora(Plugin):
    """W <- W + strength (alpha / rank) up down for each layer of the file (Hu et al. 2021, arXiv:2106.09685, section 4.1).

    Of DoRA's layers the difference to W is taken, times strength. The merged model is what is trained and exported;
    a resumed run merges the same file again where the merged weights are frozen.
    """

    class Settings(PluginSettings):
        file: Path = Field(description="adapter file in diffusers' or sd-scripts' names, or the folder of an export")
        strength: float = Field(1.0, description="how much of it")

        @field_validator("file")
        @classmethod
        def _is_safe(cls, file: Path) -> Path:
            if problem := adapter_problem(file):
                raise ValueError(problem)
            return file

    @build("model", priority=5)
    def merge(self, modules: "dict[str, nn.Module]", context: ModelContext) -> "dict[str, nn.Module]":
        """Raises ValueError for a file of other layers, or whose matrices do not fit."""
        import torch

        from core.weights.adapters import layer_paths, read_adapters

        layers = {name: list(layer_paths(module)) for name, module in modules.items()}
        for name, found in read_adapters(self.settings.file, layers, context.names).items():
            for path, adapter in found.items():
                weight = modules[name].get_parameter(f"{path}.weight")
                if weight.shape != torch.Size((adapter.up.shape[0], *adapter.down.shape[1:])):
                    raise ValueError(f"{self.settings.file}: {name}.{path} is of another size than the model's layer")
                with torch.no_grad():
                    weight.copy_(adapter.merged_into(weight, self.settings.strength))
        return modules
