"""Lora trains adapters and nothing else, and what it exports is, in stock diffusers, the model as it was trained."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from events.errors import PluginError
from tests.small_runs import Run, assert_same_state
from tests.tiny_models import tiny_pipeline, write_folder

Train = Callable[..., Run]
LORA = '[[plugins]]\nuse = "plugins.lora.Lora"\n{}\n'
BOTH = 'model.train=["unet", "text_encoder"]'
KINDS = {
    "plain": "rank = 4",
    "scaled": "rank = 8\nalpha = 2.0",
    "of every layer": 'rank = 4\ntargets = ["*"]',
    "of several ranks": 'rank = 2\nranks = { "*attn2*" = 6, "*.q_proj" = 1 }',
    "DoRA": 'rank = 4\ndora = true\ntargets = ["*.to_q", "*.conv1", "*.q_proj"]',
}
UNREAD_BY_DIFFUSERS = (KINDS["of several ranks"], KINDS["DoRA"])
"""In sd-scripts' names: its loader takes one rank for all layers, and knows no magnitudes of a text encoder."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tiny_pipeline(), tmp_path_factory.mktemp("lora") / "model")


@pytest.fixture
def fit(train: Train, model: Path) -> Train:
    """Train adapters of the tiny model, with a preview before and after and an export of the adapter alone."""

    def execute(*overrides: str, plugins: str = "") -> Run:
        return train(
            f"model.path={model}", "model.from_scratch=[]", BOTH, "data.resolution=64", "train.steps=4",
            "train.learning_rate=0.02", "preview.at_start=true", "preview.at_end=true", "preview.guidance=2.0",
            "export.at_end=true", "export.model=false", 'export.dtype="fp32"', *overrides, plugins=plugins,
        )  # fmt: skip

    return execute


def export_of(run: Run) -> Path:
    (folder,) = (path for path in run.folder.glob("exports/*") if path.is_dir())
    return folder


def picture(run: Run, step: int) -> Any:
    """The first preview of a step, with its caption as prompt."""
    (path,) = (run.folder / "previews" / f"step-{step:06d}").glob("00-*.png")
    return np.asarray(Image.open(path)).astype(int)


def stock_picture(model: Path, adapter: Path | None = None) -> Any:
    """What stock diffusers makes of the same prompt, with the adapter loaded."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(model, local_files_only=True, safety_checker=None)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False, steps_offset=1)
    pipeline.set_progress_bar_config(disable=True)
    if adapter is not None:
        folder, name = (adapter, WEIGHTS) if adapter.is_dir() else (adapter.parent, adapter.name)
        pipeline.load_lora_weights(folder, weight_name=name, local_files_only=True)
    generator = [torch.Generator().manual_seed(0)]
    made = pipeline(["a fox"], generator=generator, num_inference_steps=2, guidance_scale=2.0, width=64, height=64)
    return np.asarray(made.images[0]).astype(int)


WEIGHTS = "pytorch_lora_weights.safetensors"
PROMPT = 'preview.prompts="{}"'


@pytest.fixture
def prompt(tmp_path: Path) -> str:
    path = tmp_path / "fox.toml"
    path.write_text('[[prompts]]\ntext = "a fox"\n')
    return PROMPT.format(path)


@pytest.mark.parametrize("settings", KINDS.values(), ids=KINDS)
def test_the_stock_pipeline_with_the_export_is_the_live_model(
    fit: Train, model: Path, prompt: str, settings: str
) -> None:
    run = fit(prompt, plugins=LORA.format(settings))
    live = picture(run, 4)
    assert np.abs(live - picture(run, 0)).max() > 2  # it has learned something
    np.testing.assert_array_equal(picture(run, 0), stock_picture(model))  # and began at the model as it is
    np.testing.assert_allclose(stock_picture(model, export_of(run)), live, atol=1)
    if settings not in UNREAD_BY_DIFFUSERS:
        kohya = export_of(run) / f"{export_of(run).name}.safetensors"
        np.testing.assert_allclose(stock_picture(model, kohya), live, atol=1)


@pytest.mark.parametrize("settings", KINDS.values(), ids=KINDS)
def test_a_whole_export_has_the_adapter_merged_into_it(fit: Train, prompt: str, settings: str) -> None:
    run = fit(prompt, "export.model=true", plugins=LORA.format(settings))
    np.testing.assert_allclose(stock_picture(export_of(run)), picture(run, 4), atol=1)


def test_only_adapters_are_trained_and_stored(fit: Train) -> None:
    run = fit(plugins=LORA.format("rank = 4"))
    weights: Any = run.state()["weights.safetensors"]
    assert weights
    assert all(".lora_" in name for name in weights)
    assert {name.partition(".")[0] for name in weights} == {"unet", "text_encoder"}


def test_a_resumed_run_ends_as_the_unbroken_one(fit: Train) -> None:
    plugins = LORA.format("rank = 4\ndropout = 0.2\ndora = true")
    whole = fit("run.name=whole", "preview.at_start=false", plugins=plugins)
    fit("run.name=broken", "train.steps=2", "preview.at_start=false", plugins=plugins)
    assert_same_state(whole, fit("run.name=broken", "preview.at_start=false", plugins=plugins))


@pytest.mark.parametrize("naming", ["diffusers", "kohya"])
def test_training_may_go_on_from_an_adapter_in_either_naming(fit: Train, prompt: str, naming: str) -> None:
    kind = 'rank = 4\ndora = true\ntargets = ["*.to_q", "*.conv1", "*.q_proj"]'
    first = fit(prompt, "run.name=first", plugins=LORA.format(f"{kind}\nalpha = 2.0"))
    folder = export_of(first)
    start = folder if naming == "diffusers" else folder / f"{folder.name}.safetensors"
    settings = f'{kind}\nalpha = 8.0\nstart_from = "{start}"'
    again = fit(prompt, "run.name=again", "train.steps=1", plugins=LORA.format(settings))
    np.testing.assert_allclose(picture(again, 0), picture(first, 4), atol=1)


def test_an_adapter_may_become_part_of_the_model(fit: Train, prompt: str) -> None:
    first = fit(prompt, "run.name=first", plugins=LORA.format("rank = 4\ndora = true"))
    merged = f'[[plugins]]\nuse = "plugins.merge_lora.MergeLora"\nfile = "{export_of(first)}"\n'
    again = fit(prompt, "run.name=merged", "train.steps=1", plugins=merged)
    np.testing.assert_allclose(picture(again, 0), picture(first, 4), atol=1)


def test_the_header_says_what_sd_scripts_and_the_model_specification_ask_for(fit: Train) -> None:
    folder = export_of(fit("train.steps=1", plugins=LORA.format("rank = 4\nalpha = 2.0")))
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as opened:
            header = opened.metadata()
        assert (header["ss_network_dim"], header["ss_network_alpha"]) == ("4", "2.0")
        assert header["ss_network_module"] == "networks.lora"
        assert header["modelspec.architecture"].endswith("/lora")


def test_layers_are_named_as_in_the_files_of_sd_scripts(fit: Train) -> None:
    """Origin: keys of LoRA files for Stable Diffusion 1.5 by sd-scripts."""
    folder = export_of(fit("train.steps=1", plugins=LORA.format("rank = 4")))
    names = set(load_file(folder / f"{folder.name}.safetensors"))
    assert "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.lora_down.weight" in names
    assert "lora_te_text_model_encoder_layers_0_self_attn_q_proj.alpha" in names


def test_the_adapter_of_xl_is_named_as_sd_scripts_names_it_and_works_in_the_stock_pipeline(
    train: Train, tmp_path: Path, prompt: str
) -> None:
    """Origin of the names: keys of LoRA files for Stable Diffusion XL by sd-scripts."""
    from diffusers import DDIMScheduler, StableDiffusionXLPipeline

    from tests.families.tiny.sdxl import MODELS

    model = write_folder(MODELS[0].make(), tmp_path / "xl")
    run = train(
        f"model.path={model}", "model.from_scratch=[]", 'model.train=["unet", "text_encoder", "text_encoder_2"]',
        "data.resolution=64", "train.steps=3", "train.learning_rate=0.05", "preview.at_end=true",
        "preview.guidance=2.0", prompt, "export.at_end=true", "export.model=false", 'export.dtype="fp32"',
        plugins=LORA.format("rank = 4\nalpha = 2.0"),
    )  # fmt: skip
    folder = export_of(run)
    names = set(load_file(folder / f"{folder.name}.safetensors"))
    assert "lora_te1_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight" in names
    assert "lora_te2_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight" in names
    assert any(name.startswith("lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q.") for name in names)
    for name in (WEIGHTS, f"{folder.name}.safetensors"):
        pipeline = StableDiffusionXLPipeline.from_pretrained(model, local_files_only=True, add_watermarker=False)
        pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False, steps_offset=1)
        pipeline.set_progress_bar_config(disable=True)
        pipeline.load_lora_weights(folder, weight_name=name, local_files_only=True)
        made = pipeline(["a fox"],
            negative_prompt=[""], generator=[torch.Generator().manual_seed(0)], num_inference_steps=2,
                        guidance_scale=2.0, width=64, height=64)  # fmt: skip
        np.testing.assert_allclose(np.asarray(made.images[0]).astype(int), picture(run, 3), atol=1)


def test_the_adapter_of_a_transformer_works_in_the_stock_pipeline(train: Train, tmp_path: Path, prompt: str) -> None:
    from diffusers import FluxPipeline

    from tests.families.tiny.flux import MODELS

    tiny = MODELS[0]
    model = write_folder(tiny.make(), tmp_path / "flux")
    run = train(
        f"model.path={model}", "model.from_scratch=[]", "model.train=[]", f"data.max_tokens={tiny.max_tokens}",
        "data.resolution=64", "train.steps=3", "train.learning_rate=0.05", "preview.at_end=true",
        "preview.guidance=2.0", prompt, "export.at_end=true", "export.model=false", 'export.dtype="fp32"',
        plugins=LORA.format('rank = 4\nalpha = 2.0\ntargets = ["transformer_blocks.*.attn.*", "*.proj_out"]'),
    )  # fmt: skip
    folder = export_of(run)
    assert [path.name for path in folder.iterdir()] == [WEIGHTS]  # sd-scripts joins layers that are apart here
    pipeline = FluxPipeline.from_pretrained(model, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_lora_weights(folder, weight_name=WEIGHTS, local_files_only=True)
    made = pipeline(["a fox"], generator=[torch.Generator().manual_seed(0)], num_inference_steps=2,
                    guidance_scale=2.0, width=64, height=64, max_sequence_length=tiny.max_tokens)  # fmt: skip
    np.testing.assert_allclose(np.asarray(made.images[0]).astype(int), picture(run, 3), atol=1)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ('targets = ["*.to_nothing"]', r"'\*\.to_nothing' matches no layer; there are layers such as"),
        ('modules = ["vae"]', "modules has 'vae', which is none of model.train: unet, text_encoder"),
        ('ranks = { "*.nowhere" = 3 }', r"'\*\.nowhere' matches no layer"),
    ],
)
def test_patterns_and_modules_that_are_not_there_are_refused(fit: Train, settings: str, said: str) -> None:
    with pytest.raises(PluginError, match=said):
        fit(plugins=LORA.format(settings))


def test_an_adapter_of_another_rank_kind_or_model_is_refused(fit: Train) -> None:
    folder = export_of(fit("run.name=first", "train.steps=1", plugins=LORA.format("rank = 4")))
    for settings, said in (
        ("rank = 8", "has rank 4, and here it is 8; set rank"),
        ("rank = 4\ndora = true", "is not of DoRA; set dora accordingly"),
        ('rank = 4\nmodules = ["unet"]', "tensors belong to no layer of the model, such as text_encoder"),
    ):
        with pytest.raises(PluginError, match=said):
            fit("run.name=other", plugins=LORA.format(f'{settings}\nstart_from = "{folder}"'))
