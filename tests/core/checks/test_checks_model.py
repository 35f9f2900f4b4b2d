"""`run.py check` puts the model together without its weights, and finds what training would refuse of it."""

import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from core.config.tables import ModelTable
from core.errors import ConfigError
from core.families import load_family, load_without_weights
from tests.core.checking import checked
from tests.core.surveying import plugin
from tests.small_runs import STARTER, Run
from tests.tiny_models import tiny_pipeline, write_folder, write_single_file

WriteConfig = Callable[..., Path]
CHECKS = "tests.core.plugins_for_checks."
KINDS = ("sd", "sdxl", "sd3", "flux", "flux2_klein", "chroma", "pixart", "qwen_image", "sana")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tiny_pipeline(), tmp_path_factory.mktemp("checks") / "model")


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    """A model to spoil."""
    return Path(shutil.copytree(folder, tmp_path / "copied"))


def shapes(modules: dict[str, Any]) -> dict[str, Any]:
    return {
        f"{part}.{name}": tensor.shape for part, one in modules.items() for name, tensor in one.state_dict().items()
    }


# modules without values


@pytest.mark.filterwarnings("ignore:.*FluxPosEmbed:FutureWarning")  # diffusers' own Chroma warns of itself
@pytest.mark.parametrize("kind", KINDS)
def test_names_and_shapes_are_those_of_the_loaded_model(kind: str, tmp_path: Path) -> None:
    make = importlib.import_module(f"tests.families.tiny.{kind}").MODELS[0].make
    table = ModelTable(path=write_folder(make(), tmp_path / "model"))
    empty = load_without_weights(table, 0)
    assert all(weight.is_meta for one in empty.modules.values() for weight in one.parameters())
    assert shapes(empty.modules) == shapes(load_family(table, seed=0).modules)


# files


def test_a_part_without_its_weights_is_told_unless_it_starts_from_scratch(copied: Path) -> None:
    (copied / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"unet holds no diffusion_pytorch_model.safetensors; add 'unet' to"):
        load_without_weights(ModelTable(path=copied), 0)
    load_without_weights(ModelTable(path=copied, from_scratch=("unet",)), 0)


def test_a_file_of_weights_that_was_cut_off_is_told(copied: Path) -> None:
    path = copied / "vae" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ConfigError, match=r"vae/diffusion_pytorch_model.safetensors: is no whole .safetensors file"):
        load_without_weights(ModelTable(path=copied), 0)


def test_an_index_may_not_name_a_file_that_is_not_there(copied: Path) -> None:
    place = copied / "text_encoder"
    (place / "model.safetensors").rename(place / "model-00001-of-00002.safetensors")
    named = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (place / "model.safetensors.index.json").write_text(json.dumps({"weight_map": named}))
    with pytest.raises(ConfigError, match=r"text_encoder lacks model-00002-of-00002.safetensors, which model.safe"):
        load_without_weights(ModelTable(path=copied), 0)


def test_a_single_file_that_lacks_a_tensor_is_told(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = write_single_file(tiny_pipeline(), tmp_path / "model.safetensors")
    table = ModelTable(path=file, base_config=folder)
    load_without_weights(table, 0)
    tensors = load_file(file)
    name = next(name for name in sorted(tensors) if name.startswith("model.diffusion_model."))
    save_file({key: tensor for key, tensor in tensors.items() if key != name}, file)
    with pytest.raises(ConfigError, match=f"holds no value of {name}"):
        load_without_weights(table, 0)


def test_a_module_that_this_model_is_without_cannot_be_trained(tmp_path: Path) -> None:
    without = importlib.import_module("tests.families.tiny.sd3").MODELS[1].make
    table = ModelTable(path=write_folder(without(), tmp_path / "model"), train=("transformer", "text_encoder_3"))
    for load in (lambda: load_without_weights(table, 0), lambda: load_family(table, seed=0)):
        with pytest.raises(ConfigError, match=r"model.train  'text_encoder_3' is not part of"):
            load()


# what is made of it


def test_rules_and_adapters_that_match_nothing_are_told(write_config: WriteConfig) -> None:
    _, problems = checked(write_config(), "train.parameters=[{match = 'unet.nowhere.*', freeze = true}]")
    assert len(problems) == 1
    assert "unet.nowhere.*" in problems[0]
    _, problems = checked(write_config(plugin("plugins.lora.Lora", targets=["*.to_nothing"])))
    assert len(problems) == 1
    assert "'*.to_nothing' matches no layer; there are layers such as" in problems[0]


def test_an_optimizer_that_refuses_its_options_is_told(write_config: WriteConfig) -> None:
    _, problems = checked(write_config(), "train.optimizer_options={betas = [2.0, 0.9]}")
    assert len(problems) == 1
    assert "train.optimizer  torch.optim.AdamW refuses its options" in problems[0]


def test_a_plugin_that_fails_with_the_model_or_the_step_is_told(write_config: WriteConfig) -> None:
    _, problems = checked(write_config(plugin(CHECKS + "Misspelt")))
    assert len(problems) == 1
    assert "plugin Misspelt failed in Misspelt.look" in problems[0]
    assert problems[0].endswith("at build.model: KeyError: 'untet'")
    _, problems = checked(write_config(plugin(CHECKS + "NoWeight")))
    assert len(problems) == 1
    assert problems[0].endswith("ValueError: there is no weight for v_prediction")


def test_a_plugin_that_reads_values_is_no_problem_and_said_to_be_untried(write_config: WriteConfig) -> None:
    lines, problems = checked(write_config(plugin(CHECKS + "MeanWeight")))
    assert problems == []
    assert lines[0].endswith("how MeanWeight changes it is not known before its weights are read")
    assert not any(line.startswith("disk") for line in lines)


def test_an_adapter_to_go_on_from_is_no_problem(write_config: WriteConfig, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    rows = {"unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q": (8, 8)}
    tensors = {}
    for name, (wide, high) in rows.items():
        tensors |= {f"{name}.lora_A.weight": torch.ones(4, wide), f"{name}.lora_B.weight": torch.ones(high, 4)}
    save_file(tensors, tmp_path / "adapter.safetensors")
    plugins = plugin("plugins.lora.Lora", rank=4, targets=["*.to_q"], start_from=str(tmp_path / "adapter.safetensors"))
    lines, problems = checked(write_config(plugins), "model.train=['unet']")
    assert problems == []
    assert "Lora" in lines[0]


def test_the_size_of_a_checkpoint_is_about_what_it_takes(write_config: WriteConfig, train: Callable[..., Run]) -> None:
    lines, _ = checked(write_config())
    told = float(next(line for line in lines if line.startswith("disk")).split()[5])
    run = train("train.steps=1")
    (checkpoint,) = (run.folder / "checkpoints").iterdir()
    taken = sum((checkpoint / f"{name}.safetensors").stat().st_size for name in ("weights", "optimizer")) / 1e6
    assert told == pytest.approx(taken, rel=0.2)


def test_the_starter_of_the_demo_is_in_order(write_config: WriteConfig) -> None:
    lines, problems = checked(write_config(), f"model.path={STARTER}")
    assert problems == []
    assert "3.92 million weights in unet" in lines[0]
