"""A model's folder is data: with programs, or with settings that name some, it is refused before anything is loaded."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from core.config.tables import ModelTable
from core.errors import ConfigError
from core.families import load_data_side, load_family
from core.families.parts.tokenizers import write_tokenizer
from core.families.parts.untrusted import folder_problems
from core.families.parts.weights import require_safetensors

INDEX = {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    (tmp_path / "unet").mkdir()
    (tmp_path / "model_index.json").write_text(json.dumps(INDEX))
    (tmp_path / "unet" / "config.json").write_text("{}")
    return tmp_path


def problems(bare: Path, config: Any = None) -> list[str]:
    if config is not None:
        (bare / "unet" / "config.json").write_text(json.dumps(config))
    return list(folder_problems(bare))


def test_a_folder_of_data_is_fine(bare: Path) -> None:
    assert problems(bare, {"a": 1, "_attn_implementation": "flash_attention_2", "auto_map": None}) == []


@pytest.mark.parametrize("key", ["auto_map", "custom_pipeline", "custom_pipelines", "custom_generate"])
def test_keys_that_name_code_are_refused_at_any_depth(bare: Path, key: str) -> None:
    (problem,) = problems(bare, {"text_config": [{key: {"AutoModel": "evil.Model"}}]})
    assert str(bare / "unet" / "config.json") in problem
    assert repr(key) in problem


@pytest.mark.parametrize("value", ["owner/kernel", "owner/kernel@v1:name", {"": "owner/kernel"}])
def test_the_address_of_a_kernel_is_refused(bare: Path, value: object) -> None:
    assert "the address of a kernel" in problems(bare, {"_attn_implementation_internal": value})[0]


@pytest.mark.parametrize("config", ["someone/model", 3, ["a"], None])
def test_a_config_that_is_no_table_is_refused_since_a_library_would_fetch_it(bare: Path, config: object) -> None:
    (bare / "unet" / "config.json").write_text(json.dumps(config))
    assert problems(bare) == [f"{bare / 'unet' / 'config.json'} is no table"]


def test_programs_adapters_and_quantised_weights_are_refused(bare: Path) -> None:
    (bare / "pipeline.py").touch()
    (bare / "unet" / "deep").mkdir()
    (bare / "unet" / "deep" / "model.py").touch()
    (bare / "unet" / "adapter_config.json").write_text("{}")
    found = problems(bare, {"quantization_config": {"quant_method": "x"}})
    for name in ("pipeline.py", "model.py", "adapter_config.json", "'quantization_config'"):
        assert any(name in problem for problem in found), name


def test_a_part_of_another_library_is_refused(folder: Path, tmp_path: Path) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    for name in folder.iterdir():
        if name.name != "model_index.json":
            (tmp_path / name.name).symlink_to(name)
    (tmp_path / "model_index.json").write_text(json.dumps(index | {"vae": ["evil", "AutoencoderKL"]}))
    with pytest.raises(
        ConfigError, match=r"vae = \['evil', 'AutoencoderKL'\] is no class of diffusers or transformers"
    ):
        load_data_side(ModelTable(path=tmp_path), 0)


@pytest.mark.parametrize("name", ["../evil.bin", "/etc/passwd", "evil.bin", "sub/x.safetensors"])
def test_an_index_names_safetensors_beside_it_only(bare: Path, name: str) -> None:
    (bare / "unet" / "x.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    index = bare / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "x.safetensors", "b": name}}))
    with pytest.raises(ConfigError, match="beside it only"):
        require_safetensors(bare / "unet")


def test_a_folder_with_pickles_alone_is_told_how_to_convert_them(bare: Path) -> None:
    (bare / "unet" / "pytorch_model.bin").write_bytes(b"PK\x03\x04")
    with pytest.raises(ConfigError, match=r"run.py convert \S+/pytorch_model.bin \S+/model.safetensors"):
        require_safetensors(bare / "unet")


def test_of_a_tokenizers_folder_only_its_own_files_are_exported(tmp_path: Path) -> None:
    class Tokenizer:
        vocab_files_names = {"vocab_file": "spiece.model"}  # as transformers has it

    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    (tmp_path / "secret").write_text("mine")
    for name in ("tokenizer.json", "spiece.model"):
        (source / name).write_text("{}")
    (source / "notes.txt").symlink_to(tmp_path / "secret")
    write_tokenizer(Tokenizer(), source, target)
    assert sorted(path.name for path in target.iterdir()) == ["spiece.model", "tokenizer.json"]


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("scheduler/scheduler_config.json", "beta_end", "x"),
        ("tokenizer/tokenizer_config.json", "pad_token", -1),
        ("tokenizer/tokenizer_config.json", "model_max_length", {}),
        ("unet/config.json", "up_block_types", True),
        ("text_encoder/config.json", "num_attention_heads", 0),
        ("vae/config.json", "latent_channels", "x"),
        ("model_index.json", "tokenizer", None),
        ("model_index.json", "scheduler", "DDIMScheduler"),
    ],
)
def test_a_value_of_a_wrong_kind_is_an_error_of_the_model(
    folder: Path, tmp_path: Path, file: str, key: str, value: object
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    table = json.loads((copy / file).read_text()) | {key: value}
    (copy / file).write_text(json.dumps(table))
    with pytest.raises(ConfigError, match="copy"):
        load_family(ModelTable(path=copy), seed=0)
