"""Every recipe is accepted by `run.py check`, with a small model of its kind and real pictures in the place of the user's."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import run
from tests.families.tiny.flux import MODELS as FLUX
from tests.families.tiny.sdxl import MODELS as SDXL
from tests.small_runs import NAMES, PICTURES, ROOT
from tests.tiny_models import tiny_pipeline, write_folder

RECIPES = ROOT / "examples" / "recipes"


def deep_pipeline() -> Any:
    """With as many layers of the text encoder as Stable Diffusion 1.5 has, of which a recipe trains the last."""
    from transformers import CLIPTextModel

    made = tiny_pipeline()
    config = made.text_encoder.config
    config.num_hidden_layers = 12
    made.text_encoder = CLIPTextModel(config)
    return made


KINDS: dict[str, Callable[[], Any]] = {"sd": deep_pipeline, "sdxl": SDXL[0].make, "flux": FLUX[0].make}
OF = {
    "sd15-finetune": "sd", "sd15-dreambooth": "sd", "textual-inversion": "sd", "sdxl-lora-12gb": "sdxl",
    "flux-style-lora": "flux",
}  # fmt: skip


def test_every_recipe_is_tried() -> None:
    assert {path.stem for path in RECIPES.glob("*.toml")} == set(OF)
    table = (RECIPES / "README.md").read_text()
    assert all(f"`{name}.toml`" in table for name in OF)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("recipes")
    return {kind: write_folder(make(), folder / kind) for kind, make in KINDS.items()}


@pytest.mark.parametrize("name", OF)
def test_it_is_accepted(name: str, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("my-dog", "dogs", "my-cat", "style"):
        target = tmp_path / "pictures" / place
        target.mkdir(parents=True)
        for picture in NAMES:
            for suffix in (".png", ".txt"):
                shutil.copy((PICTURES / picture).with_suffix(suffix), target)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # the command sets its own
    arguments = ["check", str(RECIPES / f"{name}.toml"), "--set", f"model.path={models[OF[name]]}"]
    if OF[name] == "flux":
        arguments += ["--set", "data.max_tokens=0"]  # the small model's text encoder reads fewer
    result = CliRunner().invoke(run.app, arguments)
    assert result.exit_code == 0, f"{result.output}{result.exception}"
    assert "is in order" in result.output
