"""What goes into a checkpoint, and what is read from one."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli
import torch
from torch import Tensor

from ..config_file import NO_TOML
from ..errors import CheckpointError
from .manifest import NAME


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What goes into a checkpoint; its tensors lie on the CPU."""

    tensors: Mapping[str, Mapping[str, Tensor]]
    """By file name without `.safetensors`."""
    jsons: Mapping[str, Any]
    texts: Mapping[str, str]
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What the manifest says of the run beside step and files."""

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files, in order."""
        tensors, jsons = (f"{name}.safetensors" for name in self.tensors), (f"{name}.json" for name in self.jsons)
        return tuple(sorted((*tensors, *jsons, *self.texts, NAME)))

    @property
    def bytes(self) -> int:
        """Of the tensors, which are nearly all of it."""
        return sum(tensor.nbytes for group in self.tensors.values() for tensor in group.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A verified checkpoint on disk."""

    path: Path
    step: int
    facts: Mapping[str, Any] = field(default_factory=dict)

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Raises CheckpointError for a file that is there and cannot be read; a file of a newer schema may be absent."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self.path / f"{name}.safetensors"
        if not path.exists():
            return {}
        try:
            return load_file(path)
        except SafetensorError as error:
            raise CheckpointError(
                f"{path} is no whole .safetensors file ({error}); use --fresh to start anew"
            ) from None

    def shapes(self, name: str) -> dict[str, Tensor]:
        """As `tensors`, of tensors that have a shape and no values (on torch's meta device), of which only the header is read."""
        from safetensors import SafetensorError, safe_open

        path = self.path / f"{name}.safetensors"
        if not path.exists():
            return {}
        try:
            with safe_open(path, framework="pt") as file:
                return {key: torch.empty(file.get_slice(key).get_shape(), device="meta") for key in file.keys()}  # noqa: SIM118  # no mapping
        except SafetensorError as error:
            raise CheckpointError(
                f"{path} is no whole .safetensors file ({error}); use --fresh to start anew"
            ) from None

    def json(self, name: str) -> Any:
        path = self.path / f"{name}.json"
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"{path} is no JSON ({error!r:.200}); use --fresh to start anew") from None
        if not isinstance(value, dict):
            raise CheckpointError(f"{path} is no JSON object; use --fresh to start anew")
        return value

    def toml(self, name: str) -> dict[str, Any]:
        path = self.path / name
        try:
            return tomli.loads(path.read_text(encoding="utf-8"))
        except NO_TOML as error:
            raise CheckpointError(f"{path} is no TOML ({error!r:.200}); use --fresh to start anew") from None
