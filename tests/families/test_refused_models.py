"""A model that is not whole or not of a known kind is refused with its key, file and remedy, never loaded in part."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from core.errors import ConfigError
from core.families import Family
from tests.families.comparing import MODULES, copy_with, copy_with_scheduler

Load = Callable[..., Family]
WEIGHTS = {
    "unet": ("unet/diffusion_pytorch_model.safetensors", "conv_in.bias"),
    "vae": ("vae/diffusion_pytorch_model.safetensors", "quant_conv.bias"),
    "text_encoder": ("text_encoder/model.safetensors", "final_layer_norm.bias"),
}


@pytest.mark.parametrize("name", MODULES)
def test_a_missing_weight_is_refused_with_file_and_name(load: Load, folder: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(folder, tmp_path / "model")
    file, weight = WEIGHTS[name]
    state = load_file(tmp_path / "model" / file)
    del state[weight]
    save_file(state, tmp_path / "model" / file, {"format": "pt"})
    with pytest.raises(ConfigError) as refused:
        load(tmp_path / "model")
    assert f"{tmp_path / 'model' / file} holds no value of {weight}" in str(refused.value)


@pytest.mark.parametrize("name", MODULES)
def test_a_weight_of_another_shape_is_refused_with_its_name(
    load: Load, folder: Path, tmp_path: Path, name: str
) -> None:
    shutil.copytree(folder, tmp_path / "model")
    file, weight = WEIGHTS[name]
    state = load_file(tmp_path / "model" / file) | {weight: torch.zeros(3)}
    save_file(state, tmp_path / "model" / file, {"format": "pt"})
    with pytest.raises(ConfigError) as refused:
        load(tmp_path / "model")
    assert str(tmp_path / "model" / name) in str(refused.value)
    assert weight in str(refused.value)


@pytest.mark.parametrize(
    "weight",
    [
        "model.diffusion_model.out.2.bias",
        "first_stage_model.encoder.mid.attn_1.q.weight",
        "cond_stage_model.transformer.text_model.final_layer_norm.bias",
    ],
)
def test_a_weight_missing_from_a_single_file_is_refused(
    load: Load, folder: Path, single_file: Path, tmp_path: Path, weight: str
) -> None:
    state = load_file(single_file)
    del state[weight]
    save_file(state, tmp_path / "short.safetensors")
    with pytest.raises(ConfigError) as refused:
        load(tmp_path / "short.safetensors", base_config=folder)
    assert f"{tmp_path / 'short.safetensors'} holds no value of {weight}" in str(refused.value)


def test_a_single_file_without_a_text_encoder_does_not_borrow_that_of_its_base_config(
    load: Load, folder: Path, single_file: Path, tmp_path: Path
) -> None:
    state = {name: tensor for name, tensor in load_file(single_file).items() if "cond_stage_model" not in name}
    save_file(state, tmp_path / "short.safetensors")
    with pytest.raises(ConfigError, match="holds no value of cond_stage_model"):
        load(tmp_path / "short.safetensors", base_config=folder)


def test_a_single_file_of_another_size_is_refused_with_both_shapes(
    load: Load, folder: Path, single_file: Path, tmp_path: Path
) -> None:
    name = "model.diffusion_model.input_blocks.0.0.weight"
    save_file(load_file(single_file) | {name: torch.zeros(8, 9, 3, 3)}, tmp_path / "wide.safetensors")
    with pytest.raises(ConfigError, match=rf"{name}, \(8, 9, 3, 3\) against \(8, 4, 3, 3\)"):
        load(tmp_path / "wide.safetensors", base_config=folder)


def test_a_folder_without_weights_is_refused_with_the_way_to_start_from_scratch(
    load: Load, folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "model")
    (tmp_path / "model" / WEIGHTS["unet"][0]).unlink()
    with pytest.raises(ConfigError, match=r"model/unet: .*add 'unet' to model\.from_scratch"):
        load(tmp_path / "model")


def test_a_cut_off_file_is_refused(load: Load, folder: Path, single_file: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.safetensors"
    short.write_bytes(single_file.read_bytes()[:-100])
    with pytest.raises(ConfigError, match=r"short\.safetensors: is no whole \.safetensors file"):
        load(short, base_config=folder)


def test_a_folder_of_nothing_is_refused(load: Load, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.path .* holds no model_index\.json, so it is no diffusers folder"):
        load(tmp_path)


def test_an_index_that_is_no_json_is_refused(load: Load, tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text("{")
    with pytest.raises(ConfigError, match=r"model\.path .*model_index\.json is no JSON"):
        load(tmp_path)


def test_a_folder_that_lacks_parts_is_refused_with_all_of_them(load: Load, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "model")
    shutil.rmtree(tmp_path / "model/vae")
    shutil.rmtree(tmp_path / "model/tokenizer")
    with pytest.raises(ConfigError) as refused:
        load(tmp_path / "model")
    said = [problem.rpartition(" holds no ")[2] for problem in refused.value.problems]
    assert said == ["vae/config.json", "tokenizer"]


def test_another_pipeline_is_refused_with_the_families(load: Load, folder: Path, tmp_path: Path) -> None:
    model = copy_with(folder, tmp_path / "model", "model_index.json", _class_name="KolorsPipeline")
    with pytest.raises(
        ConfigError, match=r"model\.path .* is a KolorsPipeline; the families are: .*sd \(StableDiffusionPipeline\)"
    ):
        load(model)


def test_a_base_config_of_another_pipeline_is_refused_under_its_key(
    load: Load, folder: Path, single_file: Path, tmp_path: Path
) -> None:
    model = copy_with(folder, tmp_path / "model", "model_index.json", _class_name="KolorsPipeline")
    with pytest.raises(ConfigError, match=r"model\.base_config .* is a KolorsPipeline"):
        load(single_file, base_config=model)


def test_unknown_modules_are_refused_with_the_list_and_a_hint(load: Load, folder: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        load(folder, train=("unet", "text_encodr"), from_scratch=("vea",))
    assert refused.value.problems == (
        "model.train  'text_encodr' is none of unet, text_encoder; did you mean 'text_encoder'?",
        "model.from_scratch  'vea' is none of unet, vae, text_encoder; did you mean 'vae'?",
    )


def test_the_vae_is_not_trained(load: Load, folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.train  'vae' is none of unet, text_encoder"):
        load(folder, train=("vae",))


def test_an_inpainting_unet_is_refused_before_its_weights_are_read(load: Load, folder: Path, tmp_path: Path) -> None:
    model = copy_with(folder, tmp_path / "model", "unet/config.json", in_channels=9)
    with pytest.raises(ConfigError, match=r"takes 9 channels, the vae gives 4: an inpainting model, which .* yet"):
        load(model)


def test_a_flow_scheduler_is_refused_and_not_taken_for_a_default_schedule(
    load: Load, folder: Path, tmp_path: Path
) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    model = copy_with_scheduler(folder, tmp_path / "model", FlowMatchEulerDiscreteScheduler())
    with pytest.raises(
        ConfigError, match="is a FlowMatchEulerDiscreteScheduler predicting flow; trained are epsilon, v_prediction"
    ):
        load(model)
