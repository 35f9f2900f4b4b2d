"""TextualInversion trains the rows of new words, leaves every other row as it is, and stock diffusers reads the result."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from events.errors import PluginError
from tests.small_runs import Run, assert_same_state
from tests.tiny_models import tiny_pipeline, write_folder

Train = Callable[..., Run]
WORDS = (
    '[[plugins]]\nuse = "plugins.textual_inversion.TextualInversion"\nwords = {{ "<my-fox>" = "{}" }}\nvectors = {}\n'
)
TABLE = "text_model.embeddings.token_embedding.weight"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tiny_pipeline(), tmp_path_factory.mktemp("words") / "model")


@pytest.fixture
def learn(train: Train, model: Path, tmp_path: Path) -> Train:
    """Train a word on pictures whose captions have it, with a preview at the end."""
    prompts = tmp_path / "words.toml"
    prompts.write_text('[[prompts]]\ntext = "a <my-fox> in the snow"\n')

    def execute(*overrides: str, plugins: str) -> Run:
        caption = '[[plugins]]\nuse = "plugins.captions.Affix"\nprefix = "a <my-fox> "\n'
        return train(
            f"model.path={model}", "model.from_scratch=[]", 'model.train=["text_encoder"]', "data.resolution=64",
            "train.steps=4", "train.learning_rate=0.1", "preview.at_end=true", "preview.guidance=2.0",
            f'preview.prompts="{prompts}"', "export.at_end=true", 'export.dtype="fp32"', *overrides,
            plugins=caption + plugins,
        )  # fmt: skip

    return execute


def export_of(run: Run) -> Path:
    (folder,) = (path for path in run.folder.glob("exports/*") if path.is_dir())
    return folder


def stock_picture(model: Path, word: Path | None) -> Any:
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(model, local_files_only=True, safety_checker=None)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False, steps_offset=1)
    pipeline.set_progress_bar_config(disable=True)
    if word is not None:
        pipeline.load_textual_inversion(word.parent, weight_name=word.name, local_files_only=True)
    made = pipeline(
        ["a <my-fox> in the snow"], generator=[torch.Generator().manual_seed(0)], num_inference_steps=2,
        guidance_scale=2.0, width=64, height=64,
    )  # fmt: skip
    return np.asarray(made.images[0])


@pytest.mark.parametrize("vectors", [1, 3])
def test_only_new_rows_move(learn: Train, model: Path, vectors: int) -> None:
    export = export_of(learn(plugins=WORDS.format("fox", vectors)))
    before, after = (load_file(place / "text_encoder/model.safetensors") for place in (model, export))
    before = {f"text_model.{name.removeprefix('text_model.')}": tensor for name, tensor in before.items()}
    table = after.pop(TABLE)
    known = before.pop(TABLE)
    assert table.shape == (len(known) + vectors, known.shape[1])
    assert torch.equal(table[: len(known)], known)
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    start = tiny_pipeline().tokenizer("fox", add_special_tokens=False).input_ids
    assert all(not torch.equal(row, known[start[place % len(start)]]) for place, row in enumerate(table[len(known) :]))


@pytest.mark.parametrize("vectors", [1, 3])
def test_the_stock_pipeline_with_the_learned_word_is_the_live_model(learn: Train, model: Path, vectors: int) -> None:
    run = learn(plugins=WORDS.format("fox", vectors))
    (path,) = (run.folder / "previews" / "step-000004").glob("00-*.png")
    live = np.asarray(Image.open(path))
    np.testing.assert_array_equal(stock_picture(model, export_of(run) / "my-fox.safetensors"), live)
    np.testing.assert_array_equal(stock_picture(export_of(run), None), live)


def test_a_resumed_run_ends_as_the_unbroken_one(learn: Train) -> None:
    plugins = WORDS.format("fox", 2)
    whole = learn("run.name=whole", plugins=plugins)
    learn("run.name=broken", "train.steps=2", plugins=plugins)
    assert_same_state(whole, learn("run.name=broken", plugins=plugins))


def test_nothing_else_is_stored(learn: Train) -> None:
    weights: Any = learn("train.steps=1", plugins=WORDS.format("fox", 2)).state()["weights.safetensors"]
    assert {name: tensor.shape for name, tensor in weights.items()} == {
        "text_encoder.embeddings.token_embedding.new_rows": (2, 16)
    }


def test_a_known_word_is_refused(learn: Train) -> None:
    plugins = '[[plugins]]\nuse = "plugins.textual_inversion.TextualInversion"\nwords = { "a" = "fox" }\n'
    with pytest.raises(PluginError, match="the tokenizer of text_encoder knows 'a' already; choose another word"):
        learn(plugins=plugins)


def test_a_text_encoder_has_to_be_trained(learn: Train) -> None:
    with pytest.raises(PluginError, match=r"no text encoder is in model\.train"):
        learn('model.train=["unet"]', plugins=WORDS.format("fox", 1))
