"""A checkpoint renders what an export of its step renders, to the last bit, whatever plugins made of the model."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import run
from core.errors import CheckpointError, ConfigError
from core.stored.model import exported
from core.stored.run import choose_checkpoint, stored_run
from core.stored.sampling import Asked, Source, render, sample_grid
from tests.small_runs import Run
from tests.warm import run_py

EVERY_TWO = ("train.steps=3", "checkpoint.every_steps=2", "export.every_steps=2", "export.dtype=fp32")
V_MODEL = ("model.prediction=v_prediction",)
PLUGINS = {
    "nothing": ("", ()),
    "Ema": ('use = "plugins.ema.Ema"\ndecay = 0.5', ()),
    "Lora": ('use = "plugins.lora.Lora"\nrank = 2', ()),
    "DoRA": ('use = "plugins.lora.Lora"\nrank = 2\ndora = true\nmodules = ["unet"]', ()),
    "TextualInversion": ('use = "plugins.textual_inversion.TextualInversion"\nwords = { "<mine>" = "heart" }\nvectors = 2', ()),
    "ZeroTerminalSnr": ('use = "plugins.zero_terminal_snr.ZeroTerminalSnr"', V_MODEL),
    "LastLayers": ('use = "plugins.last_layers.LastLayers"\nlayers = 1', ()),
    "schedule-free": ("", ("train.optimizer=schedulefree.AdamWScheduleFree", "train.optimizer_options={}")),
    "half": ('use = "plugins.lora.Lora"', ("model.dtype=bf16", "train.precision=bf16", "model.vae_dtype=bf16")),
}  # fmt: skip


def table(name: str) -> str:
    return f"\n[[plugins]]\n{PLUGINS[name][0]}\n" if PLUGINS[name][0] else ""


def train_with(train: Callable[..., Run], name: str) -> Path:
    return train(*EVERY_TWO, *PLUGINS[name][1], plugins=table(name)).folder


def assert_same_model(one: Path, other: Path) -> None:
    """Every file of two exported folders, tensors bit for bit; an export may hold adapters beside."""
    for path in sorted(other.rglob("*")):
        if path.suffix == ".safetensors":
            left, right = load_file(one / path.relative_to(other)), load_file(path)
            assert left.keys() == right.keys()
            assert all(torch.equal(left[name], right[name]) for name in left), path
        elif path.is_file():
            assert (one / path.relative_to(other)).read_bytes() == path.read_bytes()


def tree(folder: Path) -> dict[str, tuple[int, str]]:
    """When each file was written, and what is in it."""
    return {
        str(path): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in folder.rglob("*") if path.is_file()
    }  # fmt: skip


@pytest.mark.parametrize("name", PLUGINS)
def test_its_model_is_that_of_the_export(name: str, train: Callable[..., Run]) -> None:
    folder = train_with(train, name)
    with exported(stored_run(folder, "2"), run.assemble_bus, averaged=None) as model:
        assert_same_model(folder / "exports" / "test-step-000002", model)


@pytest.mark.parametrize("name", ["Ema", "TextualInversion"])
def test_its_pictures_are_those_of_the_export(name: str, train: Callable[..., Run]) -> None:
    folder = train_with(train, name)
    asked = Asked(prompts=["a red <mine>"], count=2, steps=2)
    with exported(stored_run(folder, "2"), run.assemble_bus, averaged=None) as model:
        pictures = [picture.tobytes() for picture in render(model, asked)]
    expected = render(folder / "exports" / "test-step-000002", asked)
    assert pictures == [picture.tobytes() for picture in expected]


@pytest.mark.parametrize("name", ["Ema", "schedule-free"])
def test_without_the_average_it_has_the_weights_as_trained(name: str, train: Callable[..., Run]) -> None:
    folder = train_with(train, name)
    trained = load_file(folder / "checkpoints" / "step-00000002" / "weights.safetensors")
    models = {}
    for averaged in (True, False):
        with exported(stored_run(folder, "2"), run.assemble_bus, averaged=averaged) as model:
            models[averaged] = load_file(model / "unet" / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(trained[f"unet.{key}"], value) for key, value in models[False].items())
    assert any(not torch.equal(models[True][key], value) for key, value in models[False].items())


def test_an_average_that_the_run_has_not_kept_is_refused(train: Callable[..., Run]) -> None:
    folder = train_with(train, "nothing")
    with (
        pytest.raises(ConfigError, match="test keeps no average of its weights"),
        exported(stored_run(folder, "2"), run.assemble_bus, averaged=True),
    ):
        pass


def test_nothing_is_written_into_the_runs_folder(train: Callable[..., Run], tmp_path: Path) -> None:
    writers = '\n[[plugins]]\nuse = "plugins.metrics_file.MetricsFile"\n\n[[plugins]]\nuse = "plugins.tensorboard.TensorBoard"\n'
    folder = train(*EVERY_TWO, plugins=writers + table("Ema")).folder
    before = tree(folder)
    source = Source(run=folder, checkpoint="2")
    sample_grid(Asked(prompts=["owl"], count=1, steps=1), source, tmp_path / "page.png", run.assemble_bus)
    assert tree(folder) == before
    assert (tmp_path / "page.png").is_file()


def test_paths_of_the_config_begin_where_the_run_was_trained(
    train: Callable[..., Run], model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(model_folder, tmp_path / "here" / "model")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    folder = train(*EVERY_TWO, "model.path=model", "run.dir=runs").folder.resolve()
    monkeypatch.chdir(tmp_path / "elsewhere")
    sample_grid(
        Asked(prompts=["owl"], count=1, steps=1),
        Source(run=folder, checkpoint="newest"),
        Path("page.png"),
        run.assemble_bus,
    )
    assert (tmp_path / "elsewhere" / "page.png").is_file()


def test_plugins_beside_the_config_are_found_again(train: Callable[..., Run], tmp_path: Path) -> None:
    assert stored_run(train(*EVERY_TWO).folder, "2").beside == tmp_path


def test_only_plugins_with_a_say_in_the_weights_are_made(train: Callable[..., Run]) -> None:
    hook = '\n[[plugins]]\nuse = "plugins.webhook.Webhook"\nurl = "http://127.0.0.1:9/secret-part-of-the-path"\nallow_private = true\n'
    file = '\n[[plugins]]\nuse = "plugins.metrics_file.MetricsFile"\n'
    folder = train(*EVERY_TWO, plugins=hook + file + table("Ema")).folder
    assert [entry.use for entry in stored_run(folder, "2").config.plugins] == ["plugins.ema.Ema"]
    (folder / "record" / "plan.json").unlink()  # as in a run of an older version
    kept = [entry.use for entry in stored_run(folder, "2").config.plugins]
    assert kept == ["plugins.metrics_file.MetricsFile", "plugins.ema.Ema"]


def test_the_best_is_the_one_with_the_lowest_validation_loss(train: Callable[..., Run]) -> None:
    folder = train(
        "train.steps=6", "checkpoint.every_steps=2", "checkpoint.keep=9", "validation.fraction=0.3",
        "validation.every_steps=1", "train.learning_rate=0.5",
    ).folder  # fmt: skip
    measured = dict(choose_checkpoint(folder, "newest").json("state")["validation"]["held_out"])
    lowest = min((2, 4, 6), key=lambda step: measured[step])
    assert choose_checkpoint(folder, "best").step == lowest
    assert choose_checkpoint(folder, "newest").step == 6


def test_without_a_validation_none_is_best(train: Callable[..., Run]) -> None:
    folder = train(*EVERY_TWO).folder
    with pytest.raises(
        ConfigError, match="of no checkpoint of test the validation loss was measured; name one of 2, 3"
    ):
        choose_checkpoint(folder, "best")


@pytest.mark.parametrize("wanted", ["1", "last", "2.0", "-2"])
def test_one_that_there_is_not_is_refused_with_those_there_are(wanted: str, train: Callable[..., Run]) -> None:
    folder = train(*EVERY_TWO).folder
    with pytest.raises(ConfigError, match=f"--checkpoint {wanted}: test has 2, 3; newest and best"):
        choose_checkpoint(folder, wanted)


def test_a_damaged_one_is_refused(train: Callable[..., Run]) -> None:
    folder = train(*EVERY_TWO).folder
    with (folder / "checkpoints" / "step-00000002" / "weights.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\xff")
    with pytest.raises(CheckpointError, match=r"weights\.safetensors is damaged"):
        choose_checkpoint(folder, "2")
    assert choose_checkpoint(folder, "newest").step == 3


def test_a_run_without_checkpoints_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no checkpoint yet"):
        choose_checkpoint(tmp_path, "newest")


def test_which_checkpoint_is_asked_of_runs_alone(tmp_path: Path) -> None:
    for source in (Source(model=tmp_path, checkpoint="2"), Source(averaged=False)):
        with pytest.raises(ConfigError, match="choose among the weights of a run; name it with --run"):
            sample_grid(Asked(prompts=["owl"]), source, tmp_path / "page.png", run.assemble_bus)


def test_pictures_have_the_sides_that_are_asked_for(train: Callable[..., Run], tmp_path: Path) -> None:
    model = train_with(train, "nothing") / "exports" / "test-step-000002"
    (picture,) = render(model, Asked(prompts=["owl"], count=1, steps=1, width=48, height=32))
    assert picture.size == (48, 32)
    with pytest.raises(ConfigError, match="--width 50 is no multiple of"):
        render(model, Asked(prompts=["owl"], width=50))


def test_into_a_folder_each_picture_goes_beside_the_grid(train: Callable[..., Run], tmp_path: Path) -> None:
    source, asked = (
        Source(run=train_with(train, "nothing"), checkpoint="3"),
        Asked(prompts=["owl", "fox"], count=2, steps=1),
    )
    sample_grid(asked, source, tmp_path, run.assemble_bus)
    names = {path.name for path in tmp_path.glob("*.png")}
    assert names == {"00-seed-0.png", "01-seed-1.png", "02-seed-0.png", "03-seed-1.png", "grid.png"}


def test_the_command_takes_a_runs_name_and_says_which_checkpoints_there_are(
    train: Callable[..., Run], tmp_path: Path
) -> None:
    train(*EVERY_TWO)
    words = ["sample", "--run", "test", "--prompt", "owl", "--checkpoint"]
    done = run_py(*words, "7", cwd=tmp_path)
    assert done.returncode == 2
    assert "--checkpoint 7: test has 2, 3; newest and best mean one of them" in done.stderr
    options = ["newest", "--no-ema", "--count", "1", "--steps", "1"]
    done = run_py(*words, *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "samples.png\n"
    assert (tmp_path / "samples.png").is_file()
