"""Low-rank adapters of layers, and the files that hold them, in the names of diffusers and of sd-scripts.

A layer's weight W becomes W + s up down (Hu et al. 2021, LoRA, arXiv:2106.09685, eq. 3) with s = alpha / rank, and with
a magnitude m per output m (W + s up down) / |W + s up down| (Liu et al. 2024, DoRA, arXiv:2402.09353, eq. 5).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from events.payloads import AdapterNames

from .files import adapter_file, adapter_problem

DIFFUSERS = {"lora_A.weight": "down", "lora_B.weight": "up", "lora_magnitude_vector": "magnitude",
             "lora_magnitude_vector.weight": "magnitude", "lora.down.weight": "down", "lora.up.weight": "up"}  # fmt: skip
KOHYA = {"lora_down.weight": "down", "lora_up.weight": "up", "alpha": "alpha", "dora_scale": "magnitude"}
PREFIX = "text_model."
"""Older releases of transformers have it before the layers of CLIP's text encoder, and files keep it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LowRank:
    """The adapter of one layer."""

    down: Tensor
    """(r, in), or (r, in, kh, kw) of a convolution."""
    up: Tensor
    """(out, r), or (out, r, 1, 1)."""
    scale: float
    """alpha / rank."""
    magnitude: Tensor | None = None
    """Of DoRA, one value an output, in any shape."""

    @property
    def rank(self) -> int:
        return len(self.down)

    def delta(self) -> Tensor:
        """s up down in float32, in the shape of the layer's weight."""
        product = self.up.float().flatten(1) @ self.down.float().flatten(1)
        return self.scale * product.reshape(self.up.shape[0], *self.down.shape[1:])

    def merged_into(self, weight: Tensor, strength: float = 1.0) -> Tensor:
        """The weight that behaves as `weight` with this adapter at `strength`, in the weight's dtype."""
        merged = weight.float() + strength * self.delta().to(weight.device)
        if self.magnitude is not None:
            directed = merged.flatten(1)
            wanted = self.magnitude.to(weight.device).float().flatten() / directed.norm(dim=1)
            scaled = (directed * wanted[:, None]).reshape(merged.shape)
            merged = scaled if strength == 1 else weight.float() + strength * (scaled - weight.float())
        return merged.to(weight.dtype)


Adapters = Mapping[str, Mapping[str, LowRank]]
"""By module and path of the layer within it."""


def diffusers_tensors(adapters: Adapters, prefixed: Iterable[str] = ()) -> dict[str, Tensor]:
    """As `pipeline.load_lora_weights` reads them; `prefixed` are the modules whose layers files keep under `text_model.`

    That file holds no alpha, and one rank is assumed for a module. So the scale is multiplied into `up`, and lower
    ranks are filled up with zeros, which changes nothing.
    """
    tensors: dict[str, Tensor] = {}
    for module, layers in adapters.items():
        rank = max(layer.rank for layer in layers.values())
        for path, layer in layers.items():
            place = f"{module}.{_long_standing(path) if module in prefixed else path}"
            tensors[f"{place}.lora_A.weight"] = _filled(layer.down, 0, rank)
            tensors[f"{place}.lora_B.weight"] = _filled(layer.up * layer.scale, 1, rank)
            if layer.magnitude is not None:
                shape = (1, -1, 1, 1) if layer.down.ndim == 4 else (-1,)  # as peft has them
                tensors[f"{place}.lora_magnitude_vector"] = layer.magnitude.reshape(shape).clone()
    return tensors


def kohya_tensors(adapters: Adapters, names: AdapterNames) -> dict[str, Tensor]:
    """As sd-scripts and the programs that follow it name them; empty where they know no name of a layer."""
    tensors: dict[str, Tensor] = {}
    for module, layers in adapters.items():
        known = names.kohya(module, layers)
        if len(known) < len(layers):
            return {}
        for path, layer in layers.items():
            tensors[f"{known[path]}.lora_down.weight"] = layer.down.clone()
            tensors[f"{known[path]}.lora_up.weight"] = layer.up.clone()
            tensors[f"{known[path]}.alpha"] = torch.tensor(layer.scale * layer.rank)
            if layer.magnitude is not None:
                tensors[f"{known[path]}.dora_scale"] = layer.magnitude.reshape(-1, *[1] * (layer.down.ndim - 1))
    return tensors


def read_adapters(
    path: Path, layers: Mapping[str, Iterable[str]], names: AdapterNames
) -> dict[str, dict[str, LowRank]]:
    """The adapters of a .safetensors file, or of a folder with one, in either naming; `layers` are those that there are.

    Raises ValueError for a file that is no safetensors, for a tensor that belongs to none of the layers, and for a layer
    that is not whole.
    """
    from safetensors.torch import load_file

    file = adapter_file(path)
    if problem := adapter_problem(path):
        raise ValueError(problem)
    places = _places(layers, names)
    parts: dict[tuple[str, str], dict[str, Tensor]] = {}
    strange = []
    for key, tensor in load_file(file).items():
        if (found := _part_of(key, places)) is None:
            strange.append(key)
        else:
            layer, part = found
            parts.setdefault(layer, {})[part] = tensor
    if strange:
        raise ValueError(f"{file}: {len(strange)} tensors belong to no layer of the model, such as {min(strange)}")
    adapters: dict[str, dict[str, LowRank]] = {}
    for (module, path_within), found_parts in parts.items():
        if missing := {"down", "up"} - set(found_parts):
            raise ValueError(f"{file}: of {module}.{path_within} there is no {missing.pop()} matrix")
        adapters.setdefault(module, {})[path_within] = _layer(found_parts)
    return adapters


def _layer(parts: Mapping[str, Tensor]) -> LowRank:
    down, magnitude = parts["down"], parts.get("magnitude")
    alpha = float(parts["alpha"]) if "alpha" in parts else float(len(down))
    flat = None if magnitude is None else magnitude.flatten()
    return LowRank(down=down, up=parts["up"], scale=alpha / len(down), magnitude=flat)


def _places(layers: Mapping[str, Iterable[str]], names: AdapterNames) -> dict[str, tuple[str, str]]:
    """(module, layer) by every name that a file may have for it."""
    places: dict[str, tuple[str, str]] = {}
    for module, paths in layers.items():
        paths = list(paths)
        for path, name in names.kohya(module, paths).items():
            places[name] = (module, path)
        for path in paths:
            for written in (path, _long_standing(path)):
                places[f"{module}.{written}"] = (module, path)
                places[f"base_model.model.{written}"] = (module, path)
    return places


def _part_of(key: str, places: Mapping[str, tuple[str, str]]) -> tuple[tuple[str, str], str] | None:
    for endings in (DIFFUSERS, KOHYA):
        for ending, part in endings.items():
            place = key.removesuffix(f".{ending}")
            if place != key and place in places:
                return places[place], part
    return None


def _long_standing(path: str) -> str:
    return path if path.startswith(PREFIX) else PREFIX + path


def _filled(matrix: Tensor, dimension: int, rank: int) -> Tensor:
    """With zeros up to `rank` along a dimension."""
    lacking = rank - matrix.shape[dimension]
    if not lacking:
        return matrix.clone().contiguous()
    shape = list(matrix.shape)
    shape[dimension] = lacking
    return torch.cat([matrix, matrix.new_zeros(shape)], dimension).contiguous()


def layer_paths(module: torch.nn.Module) -> Iterator[str]:
    """Paths of the layers of a module that can be adapted: linear ones and convolutions."""
    for path, part in module.named_modules():
        if isinstance(part, torch.nn.Linear | torch.nn.Conv2d) and path:
            yield path
