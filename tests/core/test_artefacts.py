"""Previews look and do not touch; exports are what the stock pipeline loads; a checkpoint waits for the lanes."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from core.config import PreviewTable
from core.errors import ConfigError
from core.grid import labelled_grid
from core.preview import read_prompts
from tests.small_runs import Run, assert_same_state

EMA = '\n[[plugins]]\nuse = "plugins.ema.Ema"\ndecay = 0.5\n'


def prompts_file(folder: Path, *texts: str) -> Path:
    path = folder / "prompts.toml"
    path.write_text("".join(f'[[prompts]]\ntext = "{text}"\nnote = "held out"\n' for text in texts))
    return path


def test_previews_change_nothing_about_training(train: Callable[..., Run]) -> None:
    without = train("run.name=without", plugins=EMA)
    with_them = train(
        "run.name=with", "preview.every_steps=2", "preview.at_start=true", "preview.at_end=true", plugins=EMA
    )
    assert_same_state(with_them, without)


def test_each_round_keeps_every_picture_and_a_grid(train: Callable[..., Run], tmp_path: Path) -> None:
    path = prompts_file(tmp_path, "red heart", "owl", "fox")
    run = train("train.steps=2", "preview.at_start=true", "preview.at_end=true", f"preview.prompts={path}")
    for step in (0, 2):
        names = sorted(entry.name for entry in (run.folder / f"previews/step-{step:06d}").iterdir())
        assert names == ["00-red-heart.png", "01-owl.png", "02-fox.png", "grid.png"]


def test_the_same_weights_give_the_same_previews(train: Callable[..., Run]) -> None:
    one = train("run.name=one", "train.steps=1", "preview.at_end=true")
    two = train("run.name=two", "train.steps=1", "preview.at_end=true", "preview.batch_size=1")
    for path in (one.folder / "previews/step-000001").glob("0*.png"):
        left, right = Image.open(path), Image.open(two.folder / "previews/step-000001" / path.name)
        difference = torch.tensor(list(left.tobytes())).sub(torch.tensor(list(right.tobytes()))).abs().max()
        assert difference <= 1  # the batch may be computed in another order


def test_previews_show_the_average_and_training_goes_on_with_the_weights(train: Callable[..., Run]) -> None:
    raw = train("run.name=raw", "train.steps=3", "train.learning_rate=0.05", "preview.at_end=true")
    mean = train("run.name=mean", "train.steps=3", "train.learning_rate=0.05", "preview.at_end=true", plugins=EMA)
    pictures = [next((run.folder / "previews/step-000003").glob("00-*.png")).read_bytes() for run in (raw, mean)]
    assert pictures[0] != pictures[1]
    left, right = raw.state()["weights.safetensors"], mean.state()["weights.safetensors"]
    assert all(torch.equal(tensor, right[name]) for name, tensor in left.items())  # type: ignore[attr-defined,index]


def test_without_a_prompts_file_training_captions_stand_in(train: Callable[..., Run]) -> None:
    run = train("train.steps=1", "preview.at_end=true", "preview.count=3")
    assert len(list((run.folder / "previews/step-000001").glob("0*.png"))) == 3


def test_a_prompts_file_that_breaks_while_training_warns_and_the_old_prompts_stay(
    train: Callable[..., Run], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = prompts_file(tmp_path, "owl")
    breaking = f'\n[[plugins]]\nuse = "tests.core.plugins_for_tests.BreakFile"\npath = "{path}"\nstep = 2\n'
    run = train(
        "train.steps=3", "preview.at_start=true", "preview.at_end=true", f"preview.prompts={path}", plugins=breaking
    )
    assert (run.folder / "previews/step-000003/00-owl.png").is_file()
    assert any("the prompts of the last round stay" in record.getMessage() for record in caplog.records)


def test_a_prompts_file_that_is_bad_from_the_start_is_refused_before_training(
    train: Callable[..., Run], tmp_path: Path
) -> None:
    path = tmp_path / "prompts.toml"
    path.write_text("[[prompts")
    with pytest.raises(ConfigError, match=r"prompts\.toml"):
        train(f"preview.prompts={path}")


def test_a_preview_that_fails_does_not_end_the_run(
    train: Callable[..., Run], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "prompts.toml"
    path.write_text('[[prompts]]\ntext = "owl"\nwidth = 33\n')
    run = train("train.steps=2", "preview.at_end=true", f"preview.prompts={path}", plugins=EMA)
    assert run.state()["step"] == "step-00000002"
    assert any("training goes on" in record.getMessage() for record in caplog.records)


def test_every_problem_of_a_prompts_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "prompts.toml"
    path.write_text('[[prompts]]\ntext = "a"\nsed = 3\n[[prompts]]\nseed = 1\n')
    with pytest.raises(ConfigError, match=r"prompts\.toml: 2 problems") as caught:
        read_prompts(path, PreviewTable(), 32)
    assert "sed" in str(caught.value)
    assert "text" in str(caught.value)


def test_seeds_count_up_and_a_prompt_may_have_its_own(tmp_path: Path) -> None:
    path = tmp_path / "prompts.toml"
    path.write_text(
        '[[prompts]]\ntext = "a"\n[[prompts]]\ntext = "b"\n[[prompts]]\ntext = "c"\nseed = 42\nwidth = 64\n'
    )
    prompts = read_prompts(path, PreviewTable(seed=10), 32)
    assert [prompt.seed for prompt in prompts] == [10, 11, 42]
    assert [(prompt.width, prompt.height) for prompt in prompts] == [(32, 32), (32, 32), (64, 32)]


def test_a_grid_has_a_place_for_each_cell() -> None:
    cells = [(Image.new("RGB", (8, 8), "red"), "one", False), (None, "two", True), (None, "three", False)]
    page = labelled_grid(cells, 2, cell_pixels=40)
    assert page.getpixel((20, 20)) == (255, 0, 0)
    assert page.size[0] > 80
    assert page.size[1] > 2 * 40


def test_a_complete_run_leaves_a_model_that_the_stock_pipeline_loads_and_renders_with(
    train: Callable[..., Run],
) -> None:
    from diffusers import StableDiffusionPipeline
    from safetensors.torch import load_file

    run = train("train.steps=3", "export.at_end=true", "export.dtype=fp32", plugins=EMA)
    folder = run.folder / "exports/test-step-000003"
    pipeline = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    pictures = pipeline("red heart", num_inference_steps=2, width=32, height=32, generator=generator).images
    assert pictures[0].size == (32, 32)
    newest = run.folder / "checkpoints/step-00000003"
    means = load_file(newest / "plugins.safetensors")
    name = "unet.conv_in.weight"
    assert torch.equal(pipeline.unet.state_dict()["conv_in.weight"], means[f"Ema/means/{name}"])


def test_an_export_is_whole_or_absent(train: Callable[..., Run], tmp_path: Path) -> None:
    from events.errors import PluginError

    failing = '\n[[plugins]]\nuse = "tests.core.plugins_for_tests.FailExport"\n'
    with pytest.raises(PluginError, match="FailExport"):
        train("train.steps=1", "export.at_end=true", plugins=failing)
    assert list((tmp_path / "runs/test/exports").iterdir()) == []


def test_async_handlers_are_done_before_a_checkpoint_takes_plugin_state(train: Callable[..., Run]) -> None:
    slow = '\n[[plugins]]\nuse = "tests.core.plugins_for_tests.SlowAsyncCounter"\n'
    run = train("train.steps=4", "log.every_steps=1", "checkpoint.every_steps=4", plugins=slow)
    state = run.state()["state"]["plugins"]["SlowAsyncCounter"]  # type: ignore[index]
    assert state == {"handed_over": 3, "done": 3}


def test_the_single_file_holds_what_the_folder_holds_and_is_trained_from_again(
    train: Callable[..., Run], model_folder: Path
) -> None:
    from diffusers import StableDiffusionPipeline

    run = train("export.at_end=true", "export.single_file=true", "export.dtype=fp32", "train.steps=2")
    folder, file = (run.folder / "exports" / f"test-step-000002{ending}" for ending in ("", ".safetensors"))
    assert not [path for path in (run.folder / "exports").iterdir() if path.name.startswith(".tmp")]
    from_folder = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)
    from_file = StableDiffusionPipeline.from_single_file(str(file), config=str(folder), local_files_only=True)
    for name in ("unet", "vae", "text_encoder"):
        one, other = (getattr(pipeline, name).state_dict() for pipeline in (from_folder, from_file))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)
    again = train(f"model.path={file}", f"model.base_config={folder}", "model.from_scratch=[]", "run.name=again",
                  "train.steps=1")  # fmt: skip
    assert again.exit_code == 0
