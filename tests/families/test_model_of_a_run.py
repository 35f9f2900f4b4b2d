"""`model.path` may be the folder of another run, whose newest export that is a model is meant, wherever the path counts."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from core.config.tables import ModelTable
from core.errors import ConfigError
from core.families import Family, find_family, load_data_side, name_of
from core.families.parts.folder import ModelFolder, newest_export
from tests.families.comparing import assert_same_weights
from tests.small_runs import Run, assert_same_state

Load = Callable[..., Family]


@pytest.fixture
def earlier(folder: Path, tmp_path: Path) -> Path:
    """A run with exports at steps 5, 20 and 100, the last of which is no model."""
    run = tmp_path / "earlier"
    for step in (5, 20):
        shutil.copytree(folder, run / f"exports/first-step-{step:06d}")
    (run / "exports/first-step-000100").mkdir()
    (run / "exports/first-step-000100/adapter.safetensors").touch()
    (run / "exports/first-step-000020.safetensors").touch()
    return run


def test_the_newest_export_that_is_a_model_is_meant(earlier: Path) -> None:
    assert ModelFolder.of(ModelTable(path=earlier)).path == earlier / "exports/first-step-000020"


def test_steps_count_as_numbers(earlier: Path, folder: Path) -> None:
    for step in (999_999, 1_000_000):
        shutil.copytree(folder, earlier / f"exports/first-step-{step}")
    assert newest_export(earlier) == earlier / "exports/first-step-1000000"


def test_family_tokens_and_weights_are_those_of_the_export(
    earlier: Path, folder: Path, load: Load, caplog: pytest.LogCaptureFixture
) -> None:
    table = ModelTable(path=earlier)
    assert name_of(find_family(table)) == "sd"
    assert load_data_side(table, 0).token_limit == load_data_side(ModelTable(path=folder), 0).token_limit
    caplog.set_level(logging.INFO)
    loaded, expected = load(earlier), load(folder)
    for name, module in expected.modules.items():
        assert_same_weights(loaded.modules[name], module)
    assert f"{earlier} is a run; the model is its newest export, first-step-000020" in caplog.text


def test_the_configs_of_a_single_file_may_be_those_of_a_run(earlier: Path, single_file: Path, load: Load) -> None:
    assert load(single_file, base_config=earlier).modules["unet"] is not None


def test_a_run_without_an_exported_model_is_refused(earlier: Path) -> None:
    for place in (earlier / "exports").glob("first-step-0000??"):
        shutil.rmtree(place)
    with pytest.raises(ConfigError, match=r"model\.path  .*earlier is a run that has exported no model yet"):
        find_family(ModelTable(path=earlier))


def test_a_model_that_has_a_folder_of_that_name_is_a_model(folder: Path, tmp_path: Path) -> None:
    model = shutil.copytree(folder, tmp_path / "model")
    shutil.copytree(folder, tmp_path / "model/exports/other-step-000001")
    assert ModelFolder.of(ModelTable(path=model)).path == tmp_path / "model"


def test_a_run_starts_from_what_another_has_exported(train: Callable[..., Run], folder: Path) -> None:
    common = ("model.from_scratch=[]", "data.resolution=64", "train.steps=1", "train.warmup_steps=0",
              "train.batch_size=2", "export.dtype=fp32")  # fmt: skip
    first = train("run.name=first", f"model.path={folder}", *common, "export.at_end=true")
    second = train("run.name=second", f"model.path={first.folder}", *common, "train.learning_rate=1e-30")
    trained, kept = (run.state()["weights.safetensors"] for run in (first, second))
    for name, tensor in trained.items():  # type: ignore[attr-defined]
        assert tensor.equal(kept[name]), name  # type: ignore[index]


def test_a_resumed_run_goes_on_from_the_export_that_it_began_with(train: Callable[..., Run], folder: Path) -> None:
    """Also when the other run has exported something newer since, here a model that is not even whole."""
    common = ("model.from_scratch=[]", "data.resolution=64", "train.batch_size=2", 'model.train=["unet"]')
    first = train("run.name=first", f"model.path={folder}", *common, "train.steps=1", "export.at_end=true")
    settings = (f"model.path={first.folder}", *common)
    whole = train("run.name=whole", *settings, "train.steps=4")
    train("run.name=broken", *settings, "train.steps=2")
    (older,) = (path for path in first.folder.glob("exports/*") if path.is_dir())
    newer = shutil.copytree(older, older.with_name("first-step-000009"))
    (newer / "text_encoder/model.safetensors").unlink()
    assert_same_state(whole, train("run.name=broken", *settings, "train.steps=4"))
