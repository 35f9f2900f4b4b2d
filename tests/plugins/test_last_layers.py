"""LastLayers trains the end of a module and leaves its beginning bit for bit as it was."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from events.errors import PluginError
from events.testing import Harness, model_context
from plugins.last_layers import LastLayers
from tests.small_runs import Run
from tests.tiny_models import tiny_pipeline, write_folder

TRAINED = model_context(trained=("unet", "text_encoder"))


def freeze(layers: int, **settings: object) -> set[str]:
    """Names of the text encoder's trained weights."""
    text_encoder = tiny_pipeline().text_encoder.requires_grad_(True)
    plugin = LastLayers(LastLayers.Settings(layers=layers, **settings))  # type: ignore[arg-type]
    Harness(plugin).compose("build.model", {"text_encoder": text_encoder}, TRAINED)
    return {name for name, weight in text_encoder.named_parameters() if weight.requires_grad}


def test_only_the_last_layers_and_the_norm_behind_them_are_trained() -> None:
    trained = freeze(1)
    assert any(".layers.1." in name for name in trained)
    assert all(".layers.1." in name or "final_layer_norm" in name for name in trained)
    assert any("final_layer_norm" in name for name in trained)
    assert not any("final_layer_norm" in name for name in freeze(1, norm=False))


def test_more_layers_than_there_are_and_modules_that_are_not_trained_are_refused() -> None:
    with pytest.raises(PluginError, match="layers = 3, but text_encoder has 2"):
        freeze(3)
    with pytest.raises(PluginError, match=r"module = 'vae' is none of model.train, unet, text_encoder"):
        freeze(1, module="vae")


def test_a_run_moves_the_last_layer_and_nothing_before_it(train: Callable[..., Run], tmp_path: Path) -> None:
    model = write_folder(tiny_pipeline(), tmp_path / "model")
    before = tiny_pipeline().text_encoder.state_dict()
    run = train(
        f"model.path={model}", 'model.from_scratch=[]', "data.resolution=64", "train.steps=2", "export.at_end=true",
        'export.dtype="fp32"', plugins='[[plugins]]\nuse = "plugins.last_layers.LastLayers"\nlayers = 1\n',
    )  # fmt: skip
    (file,) = run.folder.glob("exports/*/text_encoder/model.safetensors")
    after = {name.removeprefix("text_model."): tensor for name, tensor in load_file(file).items()}
    moved = {
        name for name, weight in before.items() if not torch.equal(weight, after[name.removeprefix("text_model.")])
    }
    assert moved
    assert all(".layers.1." in name or "final_layer_norm" in name for name in moved)
