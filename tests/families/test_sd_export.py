"""An export of Stable Diffusion is a folder in the long-standing layout that the stock pipeline renders equally from."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from core.families import Family, float_state
from tests.families.comparing import MODULES, assert_same_weights, copy_with_scheduler
from tests.families.test_sd import CAPTIONS, pixels_of, prompt
from tests.tiny_models import BETAS, STARTER


def write(family: Family, folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    tensors = {
        name: {key: tensor.to(dtype) for key, tensor in float_state(module, torch.float32).items()}
        for name, module in family.modules.items()
    }
    family.write(folder, tensors, {name: {"signalbox.step": "7"} for name in tensors})
    return folder


@pytest.fixture(scope="module")
def export(family: Family, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(family, tmp_path_factory.mktemp("export"))


@pytest.fixture(scope="module")
def reloaded(export: Path) -> Any:
    from diffusers import StableDiffusionPipeline

    return StableDiffusionPipeline.from_pretrained(export, local_files_only=True)


def test_the_stock_pipeline_loads_equal_weights(reloaded: Any, family: Family) -> None:
    for name in MODULES:
        assert_same_weights(getattr(reloaded, name), family.modules[name])


def test_the_stock_pipeline_tokenizes_alike(reloaded: Any, family: Family) -> None:
    ids = reloaded.tokenizer(CAPTIONS, padding="max_length", truncation=True, return_tensors="pt").input_ids
    assert torch.equal(ids, family.tokenize(CAPTIONS)["text_encoder"])


def test_the_stock_pipeline_renders_the_picture_of_the_live_modules(reloaded: Any, family: Family) -> None:
    one = prompt("a red heart")
    live = pixels_of(family, (one,))[0]
    from diffusers import DDIMScheduler

    reloaded.scheduler = DDIMScheduler.from_config(reloaded.scheduler.config, clip_sample=False)
    reloaded.set_progress_bar_config(disable=True)
    picture = reloaded(
        one.text, negative_prompt="", generator=torch.Generator().manual_seed(one.seed), width=64, height=64,
        num_inference_steps=one.steps, guidance_scale=one.guidance,
    ).images[0]  # fmt: skip
    assert np.array_equal(np.asarray(picture), live)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_renders_when_the_stock_pipeline_is_told_no_dtype(
    family: Family, tmp_path: Path, dtype: torch.dtype
) -> None:
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(write(family, tmp_path, dtype), local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline("a", num_inference_steps=1, width=64, height=64).images


def test_the_text_encoder_is_written_under_its_long_standing_names(export: Path) -> None:
    assert all(name.startswith("text_model.") for name in load_file(export / "text_encoder/model.safetensors"))


def test_the_tokenizer_is_written_for_old_and_new_consumers(export: Path) -> None:
    files = {path.name for path in (export / "tokenizer").iterdir()}
    assert {"vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json"} <= files


def test_the_written_vocabulary_is_that_of_the_loaded_tokenizer(export: Path) -> None:
    for name, read in (("vocab.json", json.loads), ("merges.txt", str.split)):
        assert read((export / "tokenizer" / name).read_text()) == read((STARTER / "tokenizer" / name).read_text())


def test_a_tokenizer_that_has_been_used_is_written_as_a_fresh_one(export: Path, folder: Path, tmp_path: Path) -> None:
    """Padding and cutting belong to a call, but the tokenizer remembers those of its last one."""
    from core.families.parts.tokenizers import load_tokenizer, write_tokenizer

    write_tokenizer(load_tokenizer(folder / "tokenizer", "CLIPTokenizer"), folder / "tokenizer", tmp_path)
    tokenizer = json.loads((export / "tokenizer/tokenizer.json").read_text())
    assert tokenizer == json.loads((tmp_path / "tokenizer.json").read_text())


@pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning:diffusers")  # its arithmetic of numpy and torch
@pytest.mark.parametrize("kind", ["PNDMScheduler", "EulerAncestralDiscreteScheduler"])
def test_the_models_own_scheduler_is_exported(
    load: Callable[..., Family], folder: Path, tmp_path: Path, kind: str
) -> None:
    import diffusers

    own = getattr(diffusers, kind)(**BETAS, steps_offset=1, timestep_spacing="leading")
    model = copy_with_scheduler(folder, tmp_path / "model", own)
    export = write(load(model), tmp_path / "export")
    assert json.loads((export / "model_index.json").read_text())["scheduler"] == ["diffusers", kind]
    again = diffusers.StableDiffusionPipeline.from_pretrained(export, local_files_only=True).scheduler
    assert type(again).__name__ == kind
    assert public(again.config) == public(own.config)


def test_the_configs_are_those_of_the_model(export: Path, folder: Path) -> None:
    for name in ("unet", "vae"):
        written, original = (json.loads((place / name / "config.json").read_text()) for place in (export, folder))
        assert written == original


def test_no_path_of_this_machine_is_written(export: Path, folder: Path) -> None:
    for path in export.rglob("*.json"):
        assert str(folder.parent) not in path.read_text(), path


def test_headers_are_written_beside_the_format(export: Path) -> None:
    for file in ("unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"):
        with safe_open(export / file, framework="pt") as opened:
            assert opened.metadata() == {"format": "pt", "signalbox.step": "7"}


def test_an_export_is_a_model_to_train_on(export: Path, load: Callable[..., Family], family: Family) -> None:
    again = load(export)
    for name in MODULES:
        assert_same_weights(again.modules[name], family.modules[name])


def test_tensors_on_their_way_out_are_copies(family: Family) -> None:
    module = family.modules["vae"]
    state = float_state(module, torch.float32)
    assert all(state[name].data_ptr() != weight.data_ptr() for name, weight in module.state_dict().items())


def public(config: Any) -> dict[str, Any]:
    return {key: value for key, value in config.items() if not key.startswith("_")}
