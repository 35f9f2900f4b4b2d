"""Low-rank adapters: train small matrices beside the layers of a model that stays as it is."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from core.weights.files import adapter_problem
from events import Plugin, PluginSettings, build, on, transform
from events.payloads import ExportContext, ExportWrite, ModelContext

if TYPE_CHECKING:
    from torch import Tensor, nn

    from core.weights.adapters import LowRank

ATTENTION = tuple(
    f"*.{name}"
    for name in ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out",
                 "q_proj", "k_proj", "v_proj", "out_proj")
)  # fmt: skip
"""The projections of attention layers as diffusers and transformers name them."""
NAME = "default"


class Lora(Plugin):
    """Beside each weight W of the chosen layers train up and down, so that the layer acts as W + alpha / rank up down.

    Hu et al. 2021, arXiv:2106.09685, eq. 3; with `dora` the direction of the sum is scaled by a trained magnitude (Liu
    et al. 2024, arXiv:2402.09353, eq. 5). By peft. `down` starts at random and `up` at zero, so training begins at the
    model as it is. The export holds the adapter in diffusers' and in sd-scripts' names, and with export.model the whole
    model with the adapter merged into it.
    """

    class Settings(PluginSettings):
        modules: tuple[str, ...] = Field((), description="of model.train, those that are adapted; left out: all")
        rank: PositiveInt = Field(16, description="inner dimension of the adapters")
        alpha: PositiveFloat | None = Field(None, description="the adapter counts alpha / rank times; left out: rank")
        targets: tuple[str, ...] = Field(
            ATTENTION, min_length=1, description="globs over paths of layers, such as *.to_q; * for every layer"
        )
        ranks: dict[str, PositiveInt] = Field(default_factory=dict, description="other ranks by glob; alpha goes along")
        dora: bool = Field(False, description="train the magnitude of each output apart")
        dropout: float = Field(0.0, ge=0, lt=1, description="of what goes into `down`, while training")
        start_from: Path | None = Field(None, description="adapter file, or folder of an export, to go on from")

        @field_validator("start_from")
        @classmethod
        def _is_safe(cls, path: Path | None) -> Path | None:
            if path is not None and (problem := adapter_problem(path)):
                raise ValueError(problem)
            return path

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        super().__init__(settings, name=name)
        self._adapted: tuple[str, ...] = ()

    @build("model")
    def adapt(self, modules: "dict[str, nn.Module]", context: ModelContext) -> "dict[str, nn.Module]":
        """Raises ValueError for modules that are not trained, and for patterns that match no layer."""
        from peft import inject_adapter_in_model

        from core.compute.rng import seeded_initialisation

        self._adapted = self.settings.modules or context.trained
        if strange := [name for name in self._adapted if name not in context.trained]:
            raise ValueError(f"modules has {strange[0]!r}, which is none of model.train: {', '.join(context.trained)}")
        chosen = self._choose(modules)
        for name, layers in chosen.items():
            with seeded_initialisation(context.run.seed, self.name, name):  # peft freezes whatever it does not add
                inject_adapter_in_model(self._config(layers), modules[name], adapter_name=NAME)
            for path, weight in modules[name].named_parameters():
                if "lora_" in path:
                    weight.data = weight.data.float()
        if self.settings.start_from is not None:
            self._start_from(self.settings.start_from, modules, chosen, context)
        return modules

    @transform("checkpoint.tensors", priority=20)
    def merge(self, tensors: "dict[str, Tensor]", context: ExportContext) -> "dict[str, Tensor]":
        """The module's tensors under the names that they have without adapters."""
        if context.module not in self._adapted:
            return tensors
        adapters = self._adapters_in(tensors)
        merged: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            path, _, rest = name.partition(".base_layer.")
            if ".lora_" not in name:
                adapted = rest == "weight"
                merged[f"{path}.{rest}" if rest else name] = adapters[path].merged_into(tensor) if adapted else tensor
        return merged

    @on("export.write")
    def write(self, event: ExportWrite) -> None:
        from safetensors.torch import save_file

        from core.weights.adapters import diffusers_tensors, kohya_tensors

        adapters = {name: self._adapters_in(_on_host(event.modules[name])) for name in self._adapted}
        prefixed = [name for name in adapters if type(event.modules[name]).__name__ == "CLIPTextModel"]
        header = {"format": "pt", **event.header, **self._header(event)}
        for name, tensors in (
            ("pytorch_lora_weights", diffusers_tensors(adapters, prefixed)),
            (event.name, kohya_tensors(adapters, event.names)),
        ):
            if tensors:
                halved = {key: tensor.to(event.dtype) for key, tensor in tensors.items()}
                save_file(halved, event.folder / f"{name}.safetensors", metadata=header)

    def _adapters_in(self, tensors: "Mapping[str, Tensor]") -> "dict[str, LowRank]":
        """By layer; every rank has the same scale."""
        from core.weights.adapters import LowRank

        down, up, magnitude = (f".lora_{part}.{NAME}.weight" for part in ("A", "B", "magnitude_vector"))
        scale = (self.settings.alpha or self.settings.rank) / self.settings.rank
        paths = [name.removesuffix(down) for name in tensors if name.endswith(down)]
        return {
            path: LowRank(
                down=tensors[path + down], up=tensors[path + up], scale=scale, magnitude=tensors.get(path + magnitude)
            )
            for path in paths
        }

    def _choose(self, modules: "Mapping[str, nn.Module]") -> dict[str, list[str]]:
        """The layers that are adapted, by module."""
        from core.weights.adapters import layer_paths

        paths = {name: list(layer_paths(modules[name])) for name in self._adapted}
        everything = [path for each in paths.values() for path in each]
        for pattern in (*self.settings.targets, *self.settings.ranks):
            if pattern not in ATTENTION and not any(fnmatchcase(path, pattern) for path in everything):
                raise ValueError(
                    f"{pattern!r} matches no layer; there are layers such as {everything[len(everything) // 2]}"
                )
        chosen = {}
        for name, each in paths.items():
            chosen[name] = [path for path in each if any(fnmatchcase(path, one) for one in self.settings.targets)]
            if not chosen[name]:
                raise ValueError(f"targets match no layer of {name}; it has layers such as {each[len(each) // 2]}")
        return chosen

    def _config(self, layers: Iterable[str]) -> Any:
        """For peft, which takes patterns: every layer by its whole path, the longest first since ends match too."""
        from peft import LoraConfig

        ranks = {path: self._rank_of(path) for path in sorted(layers, key=len, reverse=True)}
        alpha, rank = self.settings.alpha or self.settings.rank, self.settings.rank
        other = {re.escape(path): of_layer for path, of_layer in ranks.items()}
        return LoraConfig(
            r=rank, lora_alpha=alpha, target_modules="|".join(map(re.escape, ranks)), use_dora=self.settings.dora,
            lora_dropout=self.settings.dropout, rank_pattern=other,
            alpha_pattern={path: alpha * of_layer / rank for path, of_layer in other.items()},
        )  # fmt: skip

    def _rank_of(self, path: str) -> int:
        ranks: dict[str, int] = self.settings.ranks
        return next((ranks[pattern] for pattern in reversed(ranks) if fnmatchcase(path, pattern)), self.settings.rank)

    def _start_from(
        self, path: Path, modules: "Mapping[str, nn.Module]", layers: Mapping[str, Iterable[str]], context: ModelContext
    ) -> None:
        """Raises ValueError for a file of other layers or ranks."""
        from core.weights.adapters import read_adapters

        for name, found in read_adapters(path, layers, context.names).items():
            for layer_path, adapter in found.items():
                self._fill(modules[name].get_submodule(layer_path), adapter, f"{path}: {name}.{layer_path}")

    def _fill(self, layer: Any, adapter: "LowRank", place: str) -> None:
        """The file's scale goes into `up`, since ours stays as configured."""
        down, up = layer.lora_A[NAME].weight, layer.lora_B[NAME].weight
        if down.shape != adapter.down.shape or up.shape != adapter.up.shape:
            raise ValueError(f"{place} has rank {adapter.rank}, and here it is {len(down)}; set rank, or ranks by glob")
        if (adapter.magnitude is not None) != self.settings.dora:
            raise ValueError(
                f"{place} is {'' if adapter.magnitude is not None else 'not '}of DoRA; set dora accordingly"
            )
        scale = (self.settings.alpha or self.settings.rank) / self.settings.rank
        down.data = adapter.down.float()
        up.data = adapter.up.float() * (adapter.scale / scale)
        if adapter.magnitude is not None:
            magnitude = layer.lora_magnitude_vector[NAME].weight
            magnitude.data = adapter.magnitude.float().reshape(magnitude.shape)

    def _header(self, event: ExportWrite) -> dict[str, str]:
        """What sd-scripts writes of a network, and Stability AI's model specification."""
        settings, architecture = self.settings, event.names.architecture
        return {
            "ss_network_module": "networks.lora",
            "ss_network_dim": str(settings.rank),
            "ss_network_alpha": str(settings.alpha or settings.rank),
            "ss_output_name": event.name,
            "ss_steps": str(event.step),
            "ss_seed": str(event.run.seed),
            "ss_base_model_version": architecture,
            "modelspec.sai_model_spec": "1.0.0",
            "modelspec.architecture": f"{architecture}/lora",
            "modelspec.implementation": "diffusers",
            "modelspec.title": event.name,
            "modelspec.date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }


def _on_host(module: "nn.Module") -> "dict[str, Tensor]":
    """Copies of the adapters' weights in float32 on the CPU; waits for the device."""
    return {name: weight.detach().float().cpu() for name, weight in module.named_parameters() if ".lora_" in name}
