"""The configs and the tokenizer that are shipped are those of the original models, known here by what they count."""

import json
from typing import Any

import pytest
import torch

from core.families.parts.standard import STANDARD, standard_models
from core.families.parts.tokenizers import load_tokenizer
from core.families.parts.weights import from_config, library_of, new_transformer
from tests.tiny_models import STARTER

BEGIN, END = 49406, 49407


@pytest.mark.parametrize(
    ("model", "part", "count"),
    [
        ("sd15", "unet", 859_520_964),
        ("sd15", "vae", 83_653_863),
        ("sd15", "text_encoder", 123_060_480),
        ("sd21", "unet", 865_910_724),
        ("sd21", "vae", 83_653_863),
        ("sd21", "text_encoder", 340_387_840),
        ("sdxl", "unet", 2_567_463_684),
        ("sdxl", "vae", 83_653_863),
        ("sdxl", "text_encoder", 123_060_480),
        ("sdxl", "text_encoder_2", 694_659_840),
    ],
)
def test_a_part_has_as_many_parameters_as_the_original(model: str, part: str, count: int) -> None:
    library, kind = index(model)[part]
    made: Any = from_config if library == "diffusers" else new_transformer
    with torch.device("meta"):
        module = made(library_of(kind), STANDARD / model / part)
    assert sum(weight.numel() for weight in module.parameters()) == count


@pytest.mark.parametrize(
    ("model", "kind", "prediction"),
    [
        ("sd15", "PNDMScheduler", "epsilon"),
        ("sd21", "DDIMScheduler", "v_prediction"),
        ("sdxl", "EulerDiscreteScheduler", "epsilon"),
    ],
)
def test_a_schedulers_noise_is_that_of_stable_diffusion(model: str, kind: str, prediction: str) -> None:
    """Rombach et al. trained with betas whose roots are evenly spaced between those of 0.00085 and 0.012."""
    import diffusers

    assert index(model)["scheduler"] == ["diffusers", kind]
    scheduler = getattr(diffusers, kind).from_pretrained(STANDARD / model / "scheduler", local_files_only=True)
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    torch.testing.assert_close(scheduler.alphas_cumprod, torch.cumprod(1 - betas, 0))
    assert (scheduler.config.prediction_type, scheduler.config.steps_offset) == (prediction, 1)


@pytest.mark.parametrize(("model", "scale"), [("sd15", 0.18215), ("sd21", 0.18215), ("sdxl", 0.13025)])
def test_latents_are_scaled_as_the_original_scales_them(model: str, scale: float) -> None:
    assert json.loads((STANDARD / model / "vae/config.json").read_text())["scaling_factor"] == scale


@pytest.mark.parametrize(
    ("place", "padding"),
    [("sd15/tokenizer", END), ("sd21/tokenizer", 0), ("sdxl/tokenizer", END), ("sdxl/tokenizer_2", 0)],
)
def test_a_tokenizer_is_clips(place: str, padding: int) -> None:
    """Origin of the ids: OpenAI's CLIP; OpenCLIP's models are padded with the token of "!" instead of the end's."""
    tokenizer = load_tokenizer(STANDARD / place, "CLIPTokenizer")
    assert (len(tokenizer), tokenizer.model_max_length, tokenizer.pad_token_id) == (49408, 77, padding)
    assert tokenizer("a photo of a cat").input_ids == [BEGIN, 320, 1125, 539, 320, 2368, END]
    assert tokenizer("A  Photo of\na CAT").input_ids == [BEGIN, 320, 1125, 539, 320, 2368, END]
    padded = tokenizer("", padding="max_length", max_length=77).input_ids
    assert padded == [BEGIN, END] + [padding] * 75


def test_a_shipped_tokenizer_is_written_as_the_files_that_others_read(tmp_path: Any) -> None:
    from core.families.parts.tokenizers import tokenizer_identity, write_tokenizer

    tokenizer = load_tokenizer(STANDARD / "sdxl/tokenizer_2", "CLIPTokenizer")
    write_tokenizer(tokenizer, STANDARD / "sdxl/tokenizer_2", tmp_path)
    again = load_tokenizer(tmp_path, "CLIPTokenizer")
    assert tokenizer_identity(again) == tokenizer_identity(tokenizer)
    assert (again.pad_token, again.model_max_length) == ("!", 77)
    merges = (tmp_path / "merges.txt").read_text().splitlines()
    assert (merges[0], merges[1], len(merges)) == ("#version: 0.2", "i n", 1 + 48_894)
    assert "merges" not in json.loads((tmp_path / "tokenizer_config.json").read_text())


def test_a_vocabulary_follows_from_its_merges_as_in_the_files_of_a_real_tokenizer() -> None:
    from core.families.parts.clip_vocabulary import vocabulary_of

    lines = (STARTER / "tokenizer/merges.txt").read_text(encoding="utf-8").splitlines()[1:]
    merges = tuple((left, right) for left, right in (line.split(" ") for line in lines))
    assert vocabulary_of(merges) == json.loads((STARTER / "tokenizer/vocab.json").read_text(encoding="utf-8"))


def test_no_two_models_are_known_by_the_same_tensor() -> None:
    known = [name for model in standard_models() for name in model.holds]
    assert len(known) == len(set(known))


def index(model: str) -> Any:
    return json.loads((STANDARD / model / "model_index.json").read_text())
