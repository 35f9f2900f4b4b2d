"""load_family gives the weights that the stock loaders give, or fresh ones by the seed, and the model's own schedule."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from core.families import Family
from tests.families.comparing import MODULES, assert_same_weights, copy_with, copy_with_scheduler
from tests.tiny_models import BETAS, tiny_pipeline, write_folder, write_single_file

Load = Callable[..., Family]
UNET_WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


def test_a_folder_gives_the_stock_pipelines_weights(load: Load, stock: Any, folder: Path) -> None:
    loaded = load(folder)
    for name in MODULES:
        assert_same_weights(loaded.modules[name], getattr(stock, name))


def test_a_single_file_gives_the_stock_pipelines_weights(
    load: Load, stock: Any, folder: Path, single_file: Path
) -> None:
    loaded = load(single_file, base_config=folder)
    for name in MODULES:
        assert_same_weights(loaded.modules[name], getattr(stock, name))


def test_a_single_file_works_as_the_folder_does(load: Load, family: Family, folder: Path, single_file: Path) -> None:
    loaded = load(single_file, base_config=folder)
    tokens = loaded.tokenize(["a red heart"])
    expected = family.encode_text(family.tokenize(["a red heart"]))["embeddings"]
    assert torch.equal(loaded.encode_text(tokens)["embeddings"], expected)


def test_half_precision_on_disk_becomes_float32(load: Load, folder: Path, tmp_path: Path) -> None:
    pipeline = tiny_pipeline().to(torch.float16)
    from_file = load(write_single_file(pipeline, tmp_path / "model.safetensors"), base_config=folder)
    from_folder = load(write_folder(pipeline, tmp_path / "folder"))
    for loaded in (from_file, from_folder):
        kinds = {tensor.dtype for module in loaded.modules.values() for tensor in module.state_dict().values()}
        assert kinds == {torch.float32}


def test_modules_come_frozen_and_in_evaluation_mode(load: Load, folder: Path, single_file: Path) -> None:
    for loaded in (load(folder), load(single_file, base_config=folder), load(folder, from_scratch=MODULES)):
        for module in loaded.modules.values():
            assert not any(part.training for part in module.modules())
            assert not any(weight.requires_grad for weight in module.parameters())


@pytest.mark.parametrize("prefix", ["", "text_model."])
def test_the_text_encoder_is_read_in_both_layouts(
    load: Load, stock: Any, folder: Path, tmp_path: Path, prefix: str
) -> None:
    shutil.copytree(folder, tmp_path / "model")
    state = stock.text_encoder.state_dict()
    save_file(
        {prefix + name.removeprefix("text_model."): tensor for name, tensor in state.items()},
        tmp_path / "model/text_encoder/model.safetensors",
        {"format": "pt"},
    )
    assert_same_weights(load(tmp_path / "model").modules["text_encoder"], stock.text_encoder)


def test_a_single_file_may_leave_the_prefix_out(
    load: Load, stock: Any, folder: Path, single_file: Path, tmp_path: Path
) -> None:
    state = {name.replace(".text_model.", "."): tensor for name, tensor in load_file(single_file).items()}
    save_file(state, tmp_path / "bare.safetensors")
    loaded = load(tmp_path / "bare.safetensors", base_config=folder)
    assert_same_weights(loaded.modules["text_encoder"], stock.text_encoder)


@pytest.mark.parametrize("name", MODULES)
def test_from_scratch_depends_on_the_seed_only(load: Load, folder: Path, name: str) -> None:
    first = load(folder, seed=1, from_scratch=(name,)).modules[name]
    torch.rand(5)
    assert_same_weights(load(folder, seed=1, from_scratch=MODULES).modules[name], first)
    other = load(folder, seed=2, from_scratch=(name,)).modules[name].state_dict()
    assert any(not torch.equal(tensor, other[key]) for key, tensor in first.state_dict().items())


def test_from_scratch_counts_for_a_single_file_too(load: Load, folder: Path, single_file: Path) -> None:
    loaded = load(single_file, base_config=folder, from_scratch=("unet",))
    assert_same_weights(loaded.modules["unet"], load(folder, from_scratch=("unet",)).modules["unet"])


def test_from_scratch_needs_no_weights(load: Load, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "model")
    (tmp_path / "model" / UNET_WEIGHTS).unlink()
    assert load(tmp_path / "model", from_scratch=("unet",)).modules["unet"] is not None


def test_loading_leaves_global_random_state_alone(load: Load, folder: Path, single_file: Path) -> None:
    before = torch.get_rng_state()
    load(folder)
    load(folder, from_scratch=MODULES)
    load(single_file, base_config=folder)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_scheduler_is_of_the_class_the_index_names(load: Load, folder: Path, tmp_path: Path) -> None:
    model = copy_with(folder, tmp_path / "model", "scheduler/scheduler_config.json", _class_name="DDIMScheduler")
    load(model).write(tmp_path / "export", {}, {})
    assert '"PNDMScheduler"' in (tmp_path / "export/scheduler/scheduler_config.json").read_text()


@pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning:diffusers")  # its arithmetic of numpy and torch
@pytest.mark.parametrize("kind", ["PNDMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler"])
def test_the_schedule_trained_on_is_that_of_the_models_own_scheduler(
    load: Load, folder: Path, tmp_path: Path, kind: str
) -> None:
    import diffusers

    own = getattr(diffusers, kind)(**BETAS, prediction_type="v_prediction", num_train_timesteps=500)
    loaded = load(copy_with_scheduler(folder, tmp_path / "model", own))
    assert (loaded.schedule.prediction, loaded.schedule.timesteps) == ("v_prediction", 500)
    abar = own.alphas_cumprod
    torch.testing.assert_close(loaded.schedule.snr(torch.arange(500)), abar / (1 - abar))


def test_tensors_that_are_left_out_are_told(
    load: Load, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(folder, tmp_path / "model")
    file = tmp_path / "model" / UNET_WEIGHTS
    save_file(load_file(file) | {"strange.weight": torch.zeros(1)}, file, {"format": "pt"})
    load(tmp_path / "model")
    assert f"{file}: 1 tensors are not part of the model and are left out, such as strange.weight" in caplog.text
