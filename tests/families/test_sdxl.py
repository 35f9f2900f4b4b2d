"""Stable Diffusion XL is told the sizes of each picture, reads long captions in chunks, and keeps what its index says."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.config.tables import ModelTable
from core.families import Family, load_family
from events.payloads import Prompt
from tests.families.comparing import copy_with
from tests.families.tiny.sdxl import POOLED, WIDTH, WIDTH_2, make
from tests.tiny_models import LENGTH, write_folder

SIZES = [[600, 800, 12, 34, 64, 96]]
"""(original height, width, crop's top, left, height, width), none like another."""


@pytest.fixture(scope="module")
def stock() -> Any:
    pipeline = make()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def folder(stock: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(stock, tmp_path_factory.mktemp("sdxl") / "model")


@pytest.fixture(scope="module")
def family(folder: Path) -> Any:
    return load_family(ModelTable(path=folder), seed=0)


@pytest.fixture(scope="module")
def long(folder: Path) -> Any:
    """Reads two chunks."""
    return load_family(ModelTable(path=folder), seed=0, max_tokens=150)


def encoded(family: Family, *captions: str) -> Any:
    with torch.no_grad():
        return family.encode_text(family.tokenize(captions))


def test_sizes_are_given_in_the_order_of_the_stock_pipeline(stock: Any, family: Family) -> None:
    """What it asks its UNet for a picture with these sizes is what we predict with them."""
    seen: list[tuple[Any, Any, Any]] = []
    scheduler = family.sampler("")  # type: ignore[attr-defined]  # of PipelineFamily
    step = scheduler.step
    scheduler.step = lambda output, t, sample, **more: (
        seen.append((output, t, sample)) or step(output, t, sample, **more)
    )
    stock.scheduler = scheduler
    ((original, crop, target),) = [(row[:2], row[2:4], row[4:]) for row in SIZES]
    stock(
        "a red heart", original_size=tuple(original), crops_coords_top_left=tuple(crop), target_size=tuple(target),
        height=64, width=96, guidance_scale=1.0, num_inference_steps=1, generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    ((output, t, sample),) = seen
    with torch.no_grad():
        found = family.predict(sample, t.expand(1), encoded(family, "a red heart"), torch.tensor(SIZES))
    torch.testing.assert_close(found, output)


@pytest.mark.parametrize("place", range(6))
def test_each_size_counts(family: Family, place: int) -> None:
    noisy, t = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([500])
    sizes, other = torch.tensor(SIZES), torch.tensor(SIZES)
    other[0, place] += 300
    with torch.no_grad():
        one, two = (family.predict(noisy, t, encoded(family, "a"), each) for each in (sizes, other))
    assert not torch.allclose(one, two)


def test_a_caption_that_fits_one_chunk_is_read_alike_in_the_first_of_two(family: Family, long: Family) -> None:
    one, two = encoded(family, "a red heart", ""), encoded(long, "a red heart", "")
    assert two["embeddings"].shape == (2, 2 * LENGTH, WIDTH + WIDTH_2)
    torch.testing.assert_close(two["embeddings"][:, :LENGTH], one["embeddings"])
    assert two["pooled"].shape == (2, POOLED)
    torch.testing.assert_close(two["pooled"], one["pooled"])


def test_what_the_first_chunk_has_no_room_for_is_in_the_second(family: Family, long: Family) -> None:
    """The vector for all of a caption stays that of the first."""
    words = " ".join(["very"] * (LENGTH - 2))
    some, more = encoded(long, words), encoded(long, f"{words} a red heart")
    torch.testing.assert_close(more["pooled"], some["pooled"])
    torch.testing.assert_close(more["embeddings"][:, :LENGTH], some["embeddings"][:, :LENGTH])
    torch.testing.assert_close(more["embeddings"][:, LENGTH:], encoded(family, "a red heart")["embeddings"])


def test_previews_of_more_chunks_are_of_all_the_words(long: Family) -> None:
    """The stock pipeline itself would read the first chunk alone."""
    words = " ".join(["very"] * (LENGTH - 2))
    one, other = (pixels_of(long, f"{words} {end}") for end in ("a red heart", "a blue owl"))
    assert not np.array_equal(one, other)
    assert np.array_equal(one, pixels_of(long, f"{words} a red heart"))


def test_negative_words_count_in_previews_of_more_chunks(long: Family) -> None:
    assert not np.array_equal(pixels_of(long, "a red heart"), pixels_of(long, "a red heart", negative="a blue owl"))


def test_an_empty_caption_is_encoded_and_not_zeros(family: Family) -> None:
    found = encoded(family, "")
    assert found["embeddings"].abs().sum() > 0
    assert found["pooled"].abs().sum() > 0


def test_gradients_reach_both_text_encoders(folder: Path) -> None:
    """All but the last layer of the first, whose states are not read, and no more."""
    loaded = load_family(ModelTable(path=folder, train=("text_encoder", "text_encoder_2")), seed=0)
    for name in ("text_encoder", "text_encoder_2"):
        loaded.modules[name].requires_grad_(True)
    conditioning = loaded.encode_text(loaded.tokenize(["a red heart"]))
    loaded.predict(torch.ones(1, 4, 8, 8), torch.tensor([1]), conditioning, torch.tensor(SIZES)).sum().backward()
    without = [key for key, weight in loaded.modules["text_encoder"].named_parameters() if weight.grad is None]
    assert without
    assert all(key.startswith(("encoder.layers.1.", "final_layer_norm.")) for key in without)
    assert all(weight.grad is not None for weight in loaded.modules["text_encoder_2"].parameters())


def test_sides_are_multiples_of_32_pixels(family: Family) -> None:
    """Eight pixels a latent, and two halvings in the UNet."""
    assert family.pixel_multiple == 32


@pytest.mark.parametrize("zeros", [True, False])
def test_what_the_index_says_of_empty_prompts_is_kept(folder: Path, tmp_path: Path, zeros: bool) -> None:
    model = copy_with(folder, tmp_path / "model", "model_index.json", force_zeros_for_empty_prompt=zeros)
    place = tmp_path / "export"
    place.mkdir()
    load_family(ModelTable(path=model), seed=0).write(place, {}, {})
    assert json.loads((place / "model_index.json").read_text())["force_zeros_for_empty_prompt"] is zeros


def pixels_of(family: Family, text: str, negative: str = "") -> Any:
    prompt = Prompt(text=text, negative=negative, seed=1, width=64, height=64, steps=2, guidance=3.0)
    with torch.inference_mode():
        (picture,) = family.render((prompt,))
    return np.asarray(picture)
