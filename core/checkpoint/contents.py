"""What goes into a checkpoint, and what is read from one."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli
import torch
from torch import Tensor

from ..config.file import NO_TOML
from ..errors import CheckpointError
from .manifest import NAME
from .reading import Like, StoredTensors, read_whole

if TYPE_CHECKING:
    from .parts import Parts

SHAPES = "shards"
"""The JSON that says of which shape tensors are that several processes wrote in parts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What goes into a checkpoint; its tensors lie on the CPU."""

    tensors: Mapping[str, Mapping[str, Tensor]]
    """By file name without `.safetensors`."""
    jsons: Mapping[str, Any]
    texts: Mapping[str, str]
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What the manifest says of the run beside step and files."""
    parts: "Parts | None" = None
    """This process's part of tensors that are divided among several, and the way to write it with the others."""

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files, in order."""
        tensors, jsons = (f"{name}.safetensors" for name in self.tensors), (f"{name}.json" for name in self.jsons)
        parts = () if self.parts is None else self.parts.facts
        return tuple(sorted((*tensors, *jsons, *self.texts, *parts, NAME)))

    @property
    def bytes(self) -> int:
        """Of the tensors, which are nearly all of it."""
        whole = sum(tensor.nbytes for group in self.tensors.values() for tensor in group.values())
        return whole + (0 if self.parts is None else self.parts.bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A verified checkpoint on disk."""

    path: Path
    step: int
    facts: Mapping[str, Any] = field(default_factory=dict)

    def tensors(self, name: str, like: Like = read_whole) -> dict[str, Tensor]:
        """Those of a name, however many processes wrote them; `like` says which are wanted in part.

        Raises CheckpointError for a file that is there and cannot be read; a file of a newer schema may be absent.
        """
        with self._stored(name) as stored:
            return stored.read(like)

    def shapes(self, name: str) -> dict[str, Tensor]:
        """As `tensors`, of tensors that have a shape and no values (on torch's meta device), of which only the header is read."""
        with self._stored(name) as stored:
            return {key: torch.empty(shape, device="meta") for key, shape in stored.shapes().items()}

    def _stored(self, name: str) -> StoredTensors:
        shapes = self.json(SHAPES)["tensors"] if (self.path / f"{SHAPES}.json").exists() else {}
        return StoredTensors(self.path, name, shapes)

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
