"""Where a model lies: its diffusers folder with index and configs, its single file, and what is missing from them."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...config.tables import ModelTable
from ...errors import ConfigError
from ...weights.files import problem_with_weights
from .standard import prediction_said_by, standard_of
from .untrusted import INDEX, entry_problem, folder_problems
from .weights import reading


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """Where the configs of a model lie, and the key of the config that names the place."""

    key: str
    path: Path
    single_file: Path | None = None
    """Where its weights lie, when not in this folder."""
    prediction: str = "auto"
    """What the model predicts, where the config or the file says so."""
    notes: tuple[str, ...] = ()
    """What was found out about `model.path`, for the log."""
    advice: str = ""
    """What to do when the weights do not fit the configs."""

    @classmethod
    def of(cls, table: ModelTable) -> "ModelFolder":
        """`model.path`, or for a single file `model.base_config` or the configs that are shipped.

        A run's folder stands for its newest export. Raises ConfigError for a single file of an unknown kind, for a file
        that is no safetensors, and for a folder that holds more than data.
        """
        place = model_place(table.path, "model.path")
        notes: list[str] = []
        if place != table.path:
            notes.append(f"{table.path} is a run; the model is its newest export, {place.name}")
        if not place.is_file():
            folder = cls("model.path", place, prediction=table.prediction, notes=tuple(notes))
            folder.require_data_only()
            return folder
        with reading(place):
            problem = problem_with_weights(place)
        if problem:
            raise ConfigError("model", [f"model.path  {problem}"])
        if table.base_config is not None:
            configs = model_place(table.base_config, "model.base_config")
            folder = cls("model.base_config", configs, place, table.prediction, tuple(notes))
            folder.require_data_only()
            return folder
        standard = standard_of(place)
        notes.append(
            f"{place.name} is a single file of {standard.title}, read with the configs that are shipped for it"
        )
        prediction = table.prediction if table.prediction != "auto" else prediction_said_by(place) or "auto"
        if prediction == "auto" and standard.unsaid:
            notes.append(standard.unsaid)
        advice = f"if it is no usual {standard.title}, name a diffusers folder with its configs as model.base_config"
        return cls("model.path", standard.folder, place, prediction, tuple(notes), advice)

    def index(self) -> dict[str, Any]:
        """The folder's model_index.json. Raises ConfigError where there is none."""
        path = self.path / INDEX
        try:
            index = json.loads(path.read_text(encoding="utf-8"))
        except OSError:
            raise ConfigError(
                "model", [f"{self.key}  {self.path} holds no model_index.json, so it is no diffusers folder"]
            ) from None
        except (ValueError, RecursionError) as error:
            raise ConfigError("model", [f"{self.key}  {path} is no JSON: {error}"]) from None
        if not isinstance(index, dict):
            raise ConfigError("model", [f"{self.key}  {path} is no table"])
        return index

    def require_data_only(self) -> None:
        """Raises ConfigError that names every file and key which would have a library run code."""
        self.index()
        if problems := list(folder_problems(self.path)):
            raise ConfigError("model", [f"{self.key}  {problem}" for problem in problems])

    def require_known(self, parts: Iterable[str]) -> None:
        """Raises ConfigError for parts that the index gives to a library other than diffusers and transformers."""
        index = self.index()
        if problems := [problem for part in parts if (problem := entry_problem(self.path, index, part))]:
            raise ConfigError("model", [f"{self.key}  {problem}" for problem in problems])

    def config(self, part: str) -> dict[str, Any]:
        """A part's config.json, without the defaults that it leaves out."""
        path = self.path / part / "config.json"
        with reading(path):
            table = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(table, dict):
                raise ValueError("is no table")
        return table

    def require(self, parts: Iterable[str]) -> None:
        """Raises ConfigError that names every one of these paths within the folder that is not there."""
        missing = [part for part in parts if not (self.path / part).exists()]
        if missing:
            raise ConfigError("model", [f"{self.key}  {self.path} holds no {part}" for part in missing])


def model_place(path: Path, key: str) -> Path:
    """The path itself, or the newest export of the run that it is the folder of.

    Raises ConfigError for a run's folder with no export that is a model.
    """
    if (path / INDEX).is_file() or not (path / "exports").is_dir():
        return path
    export = newest_export(path)
    if export is None:
        raise ConfigError("model", [f"{key}  {path} is a run that has exported no model yet"])
    return export


def newest_export(run: Path) -> Path | None:
    """The export of the highest step that is a model, and not adapters alone."""
    found = [index.parent for index in (run / "exports").glob(f"*-step-*/{INDEX}")]
    numbered = [path for path in found if path.name.rpartition("-")[2].isdecimal()]
    return max(numbered, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def write_json(path: Path, table: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(table, indent=2, sort_keys=True) + "\n", encoding="utf-8")
