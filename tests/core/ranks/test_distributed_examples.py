"""Each config for several processes is accepted by `run.py check`, with a small model of its kind, and says of itself what is so."""

import json
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import pytest
import tomli

from core.config.file import validate
from core.config.tables import Config
from core.ranks.arithmetic import Sizes, kept
from tests.core.checking import checked
from tests.families.tiny.flux import MODELS as FLUX
from tests.families.tiny.sdxl import MODELS as SDXL
from tests.small_runs import NAMES, PICTURES, ROOT
from tests.tiny_models import write_folder

EXAMPLES = sorted((ROOT / "examples" / "distributed").glob("*.toml"))
KINDS = {"sdxl": SDXL[0].make, "flux": FLUX[0].make}
WEIGHTS = {"sdxl": 2_567_463_684, "flux": 11_901_408_320}
"""Of SDXL's UNet and of the transformer of Flux.1 [dev]."""
ADAPTER = 52_297_728
"""Of flux-lora-ddp, as `run.py check` counts them at the model's real sizes."""


def kind_of(path: Path) -> str:
    return path.stem.partition("-")[0]


def read(path: Path) -> Config:
    config, problems = validate(tomli.loads(path.read_text()))
    assert problems == []
    assert config is not None
    return config


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    folder = tmp_path_factory.mktemp("distributed")
    return {kind: write_folder(make(), folder / kind) for kind, make in KINDS.items()}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    path = tmp_path / "pictures.json"
    path.write_text(
        json.dumps([{"image": str((PICTURES / name).with_suffix(".png")), "caption": name} for name in NAMES])
    )
    return path


def test_both_models_have_one_for_each_strategy() -> None:
    found = {(kind_of(path), read(path).distributed.strategy) for path in EXAMPLES}
    assert found == {(kind, strategy) for kind in KINDS for strategy in ("ddp", "fsdp", "deepspeed")}
    table = (ROOT / "examples" / "distributed" / "README.md").read_text()
    assert set(re.findall(r"`([\w-]+)\.toml`", table)) == {path.stem for path in EXAMPLES}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_is_accepted(
    path: Path, models: Mapping[str, Path], pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pictures.parent)
    overrides = [f"model.path={models[kind_of(path)]}", f"data.root={pictures}"]
    if kind_of(path) == "flux":
        overrides.append("data.max_tokens=0")  # the small model's text encoder reads fewer
    lines, problems = checked(path, *overrides, processes=processes_of(path))
    if read(path).distributed.strategy == "deepspeed" and find_spec("deepspeed") is None:
        assert len(problems) == 1
        assert "needs a package that is not installed" in problems[0]
        return
    assert problems == []
    assert f" pictures a step: {pictures_of(path)} in all; strategy {read(path).distributed.strategy}" in "\n".join(
        lines
    )


def processes_of(path: Path) -> int:
    """As it says of itself."""
    return int(
        re.findall(rf"# One machine:       python run.py {named(path)} --processes (\d+)\n", path.read_text())[0]
    )


def pictures_of(path: Path) -> int:
    return int(re.findall(r"pictures: \d+ x \d+ x \d+ = (\d+)\.", path.read_text())[0])


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_commands_and_the_pictures_that_it_names_are_its_own(path: Path) -> None:
    text, train, count = path.read_text(), read(path).train, processes_of(path)
    assert f"python run.py check {named(path)} --processes {count}\n" in text
    assert f"--num_machines 2 --num_processes {2 * count} --machine_rank K" in text
    assert f"#                      run.py {named(path)}\n" in text
    said = f"{train.batch_size} x {train.accumulate} x {count} = {train.batch_size * train.accumulate * count}"
    assert f"pictures: {said}.\n" in text
    assert pictures_of(path) == train.batch_size * train.accumulate * count


@pytest.mark.parametrize("path", [path for path in EXAMPLES if "lora" not in path.stem], ids=lambda path: path.stem)
def test_the_memory_that_it_names_is_what_check_tells_for_the_real_model(path: Path) -> None:
    config, weights = read(path), WEIGHTS[kind_of(path)]
    sizes = Sizes(trained=weights, frozen=0, frozen_bytes=0, state_bytes=8 * weights)
    own = kept(sizes, config.distributed, processes_of(path), config.train.accumulate, is_half=True)
    assert f"\n# Each keeps {own.total / 1e9:.0f} GB" in path.read_text()
    if own.passing:
        assert f"and {own.passing / 1e9:.0f} GB more of weights in bf16" in path.read_text()


def test_the_memory_of_the_adapter_is_what_check_tells_for_the_real_model() -> None:
    text = (ROOT / "examples" / "distributed" / "flux-lora-ddp.toml").read_text()
    assert f"# Each keeps {2 * WEIGHTS['flux'] / 1e9:.0f} GB of the base in bf16" in text
    assert f"and {ADAPTER * 16 / 1e9:.1f} GB more of what is trained" in text


def test_the_numbers_of_weights_are_those_of_the_models() -> None:
    import torch
    from diffusers import FluxTransformer2DModel, UNet2DConditionModel

    table = json.loads((ROOT / "core" / "families" / "standard" / "sdxl" / "unet" / "config.json").read_text())
    with torch.device("meta"):
        found = {
            "sdxl": UNet2DConditionModel(**_of_arguments(table)),
            "flux": FluxTransformer2DModel(guidance_embeds=True),
        }
    assert {kind: sum(one.numel() for one in model.parameters()) for kind, model in found.items()} == WEIGHTS


def _of_arguments(table: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in table.items() if not key.startswith("_")}
