"""Single files in the layout that a model was first published in: where each tensor of a module lies, reading, writing."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .weights import reading, require_whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a tensor of a module lies in the file."""

    name: str
    part: int = 0
    """Which of several tensors of the module that are one there, joined along their rows."""
    transposed: bool = False
    convolution: bool = False
    """A matrix here, a convolution of 1x1 there: (C, D) is (C, D, 1, 1)."""
    also: str = ""
    """A name that some tools give it; read where `name` is not there."""


Places = Callable[[Iterable[str]], dict[str, Place]]
"""Names of a module's tensors -> their places. Raises ValueError for a name that the layout has no place for."""


def read_original(
    path: Path, places: Mapping[str, Place], shapes: Mapping[str, torch.Size], advice: str = ""
) -> dict[str, Tensor]:
    """A module's tensors out of the file, float32, by their names in the module.

    Only those at `places` are read. Raises ConfigError, with advice, for those that are missing or of another shape.
    """
    from safetensors import safe_open

    tensors: dict[str, Tensor] = {}
    missing, mismatched = [], []
    with reading(path), safe_open(path, framework="pt") as file:
        held = set(file.keys())
        for names in _together(places):
            place = places[names[0]]
            found = place.name if place.name in held else place.also
            if found not in held:
                missing.append(place.name)
                continue
            tensor, expected = file.get_tensor(found).float(), _shape_there(place, [shapes[name] for name in names])
            if tensor.ndim == len(expected) + 2 and tensor.shape[2:] == (1, 1):
                tensor = tensor[:, :, 0, 0]
            if tensor.shape != expected:
                mismatched.append(f"{found}, {tuple(tensor.shape)} against {tuple(expected)}")
                continue
            tensors |= _taken_apart(tensor.T if place.transposed else tensor, {name: shapes[name] for name in names})
    require_whole(path, missing, mismatched, advice)
    return tensors


def require_names(path: Path, places: Mapping[str, Place]) -> None:
    """Raises ConfigError for tensors of a module that the file lacks, as its header tells."""
    from safetensors import safe_open

    with reading(path), safe_open(path, framework="pt") as file:
        held = set(file.keys())
    require_whole(path, {place.name for place in places.values() if not held & {place.name, place.also}})


def to_original(states: Mapping[str, Mapping[str, Tensor]], layout: Mapping[str, Places]) -> dict[str, Tensor]:
    """The tensors of several modules as one file holds them, contiguous.

    Raises ValueError for a tensor that the layout has no place for.
    """
    tensors: dict[str, Tensor] = {}
    for module, places_of in layout.items():
        state = states[module]
        places = places_of(state)
        for names in _together(places):
            place = places[names[0]]
            joined = torch.cat([state[name] for name in names]) if len(names) > 1 else state[names[0]]
            if place.convolution and joined.ndim == 2:
                joined = joined[:, :, None, None]
            tensors[place.name] = (joined.T if place.transposed else joined).contiguous()
    return tensors


def no_place(name: str, layout: str) -> ValueError:
    return ValueError(f"{name} has no place in the original layout of {layout}")


def _together(places: Mapping[str, Place]) -> list[list[str]]:
    """Names of the tensors that are one in the file, in their order there."""
    groups: dict[str, list[str]] = {}
    for name, place in places.items():
        groups.setdefault(place.name, []).append(name)
    return [sorted(names, key=lambda name: places[name].part) for names in groups.values()]


def _shape_there(place: Place, shapes: Sequence[torch.Size]) -> torch.Size:
    """Of the joined tensor; the two last sides of a 1x1 convolution left out."""
    joined = (sum(shape[0] for shape in shapes), *shapes[0][1:]) if shapes[0] else ()
    return torch.Size(reversed(joined) if place.transposed else joined)


def _taken_apart(tensor: Tensor, shapes: Mapping[str, Any]) -> dict[str, Tensor]:
    """Each with memory of its own, so that a tensor that is kept does not hold its neighbours."""
    if len(shapes) == 1:
        return {name: tensor.contiguous() for name in shapes}
    parts = tensor.split([shape[0] for shape in shapes.values()])
    return {name: part.clone() for name, part in zip(shapes, parts, strict=True)}
