"""Padding of embeddings that the model looks away from is cut off, in steps, down to what the longest caption needs."""

import pytest
import torch

from core.data.padding import STEP, without_padding


def entry(tokens: int, whole: int = 4 * STEP) -> dict[str, torch.Tensor]:
    """As a cache holds it: `tokens` of `whole` count."""
    mask = torch.arange(whole) < tokens
    return {"embeddings": torch.randn(whole, 8), "mask": mask, "pooled": torch.randn(8)}


@pytest.mark.parametrize(
    ("tokens", "length"),
    [((5, 1), STEP), ((STEP, 3), STEP), ((STEP + 1, 3), 2 * STEP), ((4 * STEP, 0), 4 * STEP), ((0, 0), STEP)],
)
def test_the_longest_caption_says_how_much_stays(tokens: tuple[int, ...], length: int) -> None:
    entries = [entry(count) for count in tokens]
    for cut, whole in zip(without_padding(entries), entries, strict=True):
        assert torch.equal(cut["embeddings"], whole["embeddings"][:length])
        assert torch.equal(cut["mask"], whole["mask"][:length])
        assert cut["mask"].sum() == whole["mask"].sum()
        assert torch.equal(cut["pooled"], whole["pooled"])


def test_a_model_that_reads_less_than_a_step_keeps_all() -> None:
    (cut,) = without_padding([entry(3, whole=STEP - 5)])
    assert cut["embeddings"].shape == (STEP - 5, 8)
