"""Exports are what the stock pipeline loads; a checkpoint waits for the lanes."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.small_runs import Run

EMA = '\n[[plugins]]\nuse = "plugins.ema.Ema"\ndecay = 0.5\n'


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
