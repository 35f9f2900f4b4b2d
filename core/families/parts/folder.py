"""A model's diffusers folder: its index, the configs of its parts, and what is missing from it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...config import ModelTable
from ...errors import ConfigError
from .weights import reading


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """Where the configs of a model lie, and the key of the config that names the place."""

    key: str
    path: Path

    @classmethod
    def of(cls, table: ModelTable) -> "ModelFolder":
        """`model.path`, or for a single file `model.base_config`. Raises ConfigError where a file stands alone."""
        if not table.path.is_file():
            return cls("model.path", table.path)
        if table.base_config is None:
            raise ConfigError(
                "model", ["model.base_config  is needed beside a single file: a diffusers folder with its configs"]
            )
        return cls("model.base_config", table.base_config)

    def index(self) -> dict[str, Any]:
        """The folder's model_index.json. Raises ConfigError where there is none."""
        path = self.path / "model_index.json"
        try:
            index = json.loads(path.read_text(encoding="utf-8"))
        except OSError:
            raise ConfigError(
                "model", [f"{self.key}  {self.path} holds no model_index.json, so it is no diffusers folder"]
            ) from None
        except ValueError as error:
            raise ConfigError("model", [f"{self.key}  {path} is no JSON: {error}"]) from None
        if not isinstance(index, dict):
            raise ConfigError("model", [f"{self.key}  {path} is no table"])
        return index

    def config(self, part: str) -> dict[str, Any]:
        """A part's config.json, without the defaults that it leaves out."""
        path = self.path / part / "config.json"
        with reading(path):
            table: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return table

    def require(self, parts: Iterable[str]) -> None:
        """Raises ConfigError that names every one of these paths within the folder that is not there."""
        missing = [part for part in parts if not (self.path / part).exists()]
        if missing:
            raise ConfigError("model", [f"{self.key}  {self.path} holds no {part}" for part in missing])


def write_json(path: Path, table: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(table, indent=2, sort_keys=True) + "\n", encoding="utf-8")
