"""Stable Diffusion computes as the stock pipeline does: tokens, embeddings, latents, predictions and pictures."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.families import Family
from events.payloads import Prompt
from tests.families.comparing import copy_with_scheduler
from tests.tiny_models import BETAS, LENGTH

NO_GEOMETRY = torch.zeros(2, 6, dtype=torch.int64)
CAPTIONS = ["a red heart", "", "Ünïcode, 3 owls' nest!", "very " * 40]


def test_captions_are_tokenized_as_the_stock_pipeline_tokenizes_them(stock: Any, family: Family) -> None:
    tokenizer = stock.tokenizer
    expected = tokenizer(CAPTIONS, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt")
    ids = family.tokenize(CAPTIONS)["text_encoder"]
    assert ids.shape == (4, LENGTH)
    assert torch.equal(ids, expected.input_ids)


def test_a_short_caption_is_padded_to_the_models_length_even_alone(family: Family) -> None:
    ids = family.tokenize(["a"])["text_encoder"]
    assert ids.shape == (1, LENGTH)
    assert ids[0, -1] == 4097


def test_captions_are_encoded_as_by_the_stock_encode_prompt(stock: Any, family: Family) -> None:
    expected, _ = stock.encode_prompt(CAPTIONS, "cpu", 1, do_classifier_free_guidance=False)
    assert torch.equal(family.encode_text(family.tokenize(CAPTIONS))["embeddings"], expected)


def test_tokenizing_works_in_another_process(family: Family) -> None:
    import pickle

    again = pickle.loads(pickle.dumps(family.tokenize))
    assert torch.equal(again(CAPTIONS)["text_encoder"], family.tokenize(CAPTIONS)["text_encoder"])


def test_latents_are_the_scaled_posterior(stock: Any, family: Family) -> None:
    pixels = torch.rand(2, 3, 64, 128, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mean, deviation = family.encode_images(pixels)
    with torch.no_grad():
        moments = stock.vae.quant_conv(stock.vae.encoder(pixels))
    expected, log_variance = moments.chunk(2, dim=1)
    assert mean.shape == (2, 4, 8, 16)
    torch.testing.assert_close(mean, expected * 0.18215)
    torch.testing.assert_close(deviation, (0.5 * log_variance).exp() * 0.18215)


def test_the_prediction_is_the_unets(stock: Any, family: Family) -> None:
    generator = torch.Generator().manual_seed(0)
    noisy, embeddings = torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, LENGTH, 16, generator=generator)
    t = torch.tensor([3, 900])
    with torch.no_grad():
        expected = stock.unet(noisy, t, encoder_hidden_states=embeddings).sample
    torch.testing.assert_close(family.predict(noisy, t, {"embeddings": embeddings}, NO_GEOMETRY), expected)


def test_gradients_reach_a_trained_text_encoder(folder: Path, load: Any) -> None:
    loaded = load(folder, train=("text_encoder",))
    loaded.modules["text_encoder"].requires_grad_(True)
    noisy, t = torch.zeros(1, 4, 8, 8), torch.tensor([1])
    loaded.predict(noisy, t, loaded.encode_text(loaded.tokenize(["a"])), NO_GEOMETRY).sum().backward()
    assert all(weight.grad is not None for weight in loaded.modules["text_encoder"].parameters())


def test_sides_are_multiples_of_64_pixels(family: Family) -> None:
    """Eight pixels a latent, and three halvings in the UNet."""
    assert family.pixel_multiple == 64


def test_modules_are_looked_up_at_each_rendering(folder: Path, load: Any) -> None:
    loaded, prompts = load(folder), (prompt("a red heart"),)
    before = pixels_of(loaded, prompts)
    loaded.modules["unet"] = load(folder, from_scratch=("unet",)).modules["unet"]
    assert not np.array_equal(pixels_of(loaded, prompts), before)


@pytest.mark.parametrize("kind", ["PNDMScheduler", "DDIMScheduler", "DDPMScheduler"])
def test_previews_are_ddim_without_clipping_whatever_the_models_scheduler(
    load: Any, folder: Path, tmp_path: Path, kind: str
) -> None:
    """The schedulers' defaults would clip latents, or warn, or both."""
    import diffusers

    own = getattr(diffusers, kind)(**BETAS)
    scheduler = load(copy_with_scheduler(folder, tmp_path / "model", own)).pipeline().scheduler
    assert type(scheduler) is diffusers.DDIMScheduler
    assert (scheduler.config.clip_sample, scheduler.config.beta_end) == (False, 0.012)


def test_a_picture_depends_on_its_own_seed_and_not_on_its_neighbours(family: Family) -> None:
    alone = pixels_of(family, (prompt("a red heart", seed=5),))
    beside = pixels_of(family, (prompt("an owl", seed=4), prompt("a red heart", seed=5)))
    np.testing.assert_allclose(beside[1].astype(int), alone[0].astype(int), atol=1)


def prompt(text: str, *, seed: int = 0) -> Prompt:
    return Prompt(text=text, negative="", seed=seed, width=64, height=64, steps=3, guidance=3.0)


def pixels_of(family: Family, prompts: tuple[Prompt, ...]) -> Any:
    with torch.inference_mode():
        return np.stack([np.asarray(picture) for picture in family.render(prompts)])
