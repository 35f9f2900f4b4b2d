"""Single files of the models that this trainer has the configs of, and what such a file says of itself."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import ConfigError
from .weights import reading

STANDARD = Path(__file__).parent.parent / "standard"
"""A folder for each such model, as diffusers has it, with `single_file.json` and without weights."""
SAYS = "single_file.json"
_PREDICTIONS = {"epsilon": "epsilon", "v": "v_prediction", "v_prediction": "v_prediction"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Standard:
    """A model with shipped configs."""

    title: str
    folder: Path
    holds: Sequence[str]
    """Tensors of which one is in each of its files and in no file of another model."""
    unsaid: str = ""
    """What is told where neither the config nor the file says what the model predicts."""

    @classmethod
    def at(cls, folder: Path) -> "Standard":
        said = json.loads((folder / SAYS).read_text(encoding="utf-8"))
        return cls(folder=folder, **said)


def standard_models() -> list[Standard]:
    return [Standard.at(path.parent) for path in sorted(STANDARD.glob(f"*/{SAYS}"))]


def standard_of(path: Path) -> Standard:
    """The one that a single file is of, by the names of its tensors. Raises ConfigError for one that is of none."""
    held = set(tensor_names(path))
    models = standard_models()
    for model in models:
        if held.intersection(model.holds):
            return model
    known = ", ".join(model.title for model in models)
    raise ConfigError(
        "model",
        [
            f"model.path  {path} is no single file of {known}, whose configs are at hand; "
            "name a diffusers folder with its configs as model.base_config"
        ],
    )


def tensor_names(path: Path) -> list[str]:
    from safetensors import safe_open

    with reading(path), safe_open(path, framework="pt") as file:
        return list(file.keys())


def prediction_said_by(path: Path) -> str:
    """What the file's model predicts, by its header or by the tensor `v_pred` that some are marked with; else empty."""
    from safetensors import safe_open

    with reading(path), safe_open(path, framework="pt") as file:
        if "v_pred" in file.keys():  # noqa: SIM118  # it is no mapping
            return "v_prediction"
        return _PREDICTIONS.get((file.metadata() or {}).get("modelspec.prediction_type", ""), "")
