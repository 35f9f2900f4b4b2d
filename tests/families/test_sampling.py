"""`run.py sample` renders with the pipeline of a model's own family, from a folder or from the newest export of a run."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core.errors import ConfigError
from core.preview.grid import labelled_grid
from core.stored.sampling import Asked, Source, find_export, sample_grid
from run import assemble_bus
from tests.families.comparing import copy_with
from tests.families.tiny import sd2, sdxl
from tests.tiny_models import tiny_pipeline, write_folder


@pytest.mark.parametrize("make", [tiny_pipeline, sd2.make, sdxl.make])
def test_pictures_are_those_of_the_stock_pipeline(make: Callable[[], Any], tmp_path: Path) -> None:
    """By the scheduler that previews have, and by seeds that count up."""
    import diffusers
    import torch

    made, out = make(), tmp_path / "out.png"
    model = write_folder(made, tmp_path / "model")
    sample(model, out, count=2, seed=3)
    stock = type(made).from_pretrained(model, local_files_only=True)
    for module in (stock.unet, stock.vae, stock.text_encoder):
        module.requires_grad_(False)  # as sampling has them: torch multiplies in another order where one is wanted
    stock.scheduler = diffusers.DDIMScheduler.from_config(stock.scheduler.config, clip_sample=False, steps_offset=1)
    stock.set_progress_bar_config(disable=True)
    pictures = stock(
        ["a red heart"] * 2, negative_prompt=[""] * 2, num_inference_steps=2, guidance_scale=3.0,
        generator=[torch.Generator().manual_seed(seed) for seed in (3, 4)],
    ).images  # fmt: skip
    cells = [(picture, f"a red heart, seed {seed}", False) for picture, seed in zip(pictures, (3, 4), strict=True)]
    page = labelled_grid(cells, 2, title=str(model))
    assert np.array_equal(np.asarray(Image.open(out)), np.asarray(page))


def test_a_models_own_folder_needs_an_index(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is no diffusers folder: it holds no model_index\.json"):
        find_export(tmp_path, None)


def test_of_a_run_the_newest_export_that_is_a_model_is_taken(folder: Path, tmp_path: Path) -> None:
    for step in (900, 1000):
        shutil.copytree(folder, tmp_path / f"exports/test-step-{step:06d}")
    (tmp_path / "exports/test-step-002000").mkdir()
    assert find_export(None, tmp_path).name == "test-step-001000"


def test_a_run_without_exports_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no export yet"):
        find_export(None, tmp_path)


def test_one_of_the_two_is_needed() -> None:
    with pytest.raises(ConfigError, match="--model, or a run with --run"):
        find_export(None, None)


def test_a_model_of_no_known_family_is_refused(folder: Path, tmp_path: Path) -> None:
    model = copy_with(folder, tmp_path / "model", "model_index.json", _class_name="KolorsPipeline")
    with pytest.raises(ConfigError, match="is a KolorsPipeline; the families are"):
        sample(model, tmp_path / "out.png")


def sample(model: Path, out: Path, *, count: int = 1, seed: int = 0) -> None:
    sample_grid(Asked(prompts=["a red heart"], count=count, steps=2, seed=seed), Source(model=model), out, assemble_bus)
