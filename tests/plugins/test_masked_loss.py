"""The loss counts where the mask says so, and each image counts the same however small its mask."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from core.errors import ConfigError
from core.step.objective import mean_squared_error
from events.payloads import Batch
from events.testing import Harness, batch, step_parts
from plugins.masked_loss import MaskedLoss, normalised_mask
from tests.small_runs import Run

MASKED = '[[plugins]]\nuse = "plugins.masked_loss.MaskedLoss"\n'


def masked(mask: Tensor | None, floor: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """(masked loss, prediction, target) of two samples."""
    torch.manual_seed(0)
    prediction, target = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    loss = Harness(MaskedLoss(MaskedLoss.Settings(floor=floor))).compose("loss", mean_squared_error, step_parts())
    held: Batch = replace(batch(torch.zeros(2, 3, 64, 64)), mask=mask)
    return loss(prediction, target, torch.zeros(2), held), prediction, target


@pytest.mark.parametrize("floor", [0.0, 0.25])
def test_it_is_the_mean_of_the_squared_error_under_the_mask(floor: float) -> None:
    mask = torch.rand(2, 1, 8, 8)
    loss, prediction, target = masked(mask, floor)
    raised = (floor + (1 - floor) * mask).expand(2, 4, 8, 8)
    expected = (raised * (prediction - target) ** 2).sum(dim=(1, 2, 3)) / raised.sum(dim=(1, 2, 3))
    torch.testing.assert_close(loss, expected)


def test_without_a_mask_and_with_a_whole_one_it_is_the_loss_itself() -> None:
    plain, prediction, target = masked(None)
    torch.testing.assert_close(
        plain, mean_squared_error(prediction, target, torch.zeros(2), batch(torch.zeros(2, 3, 8, 8)))
    )
    torch.testing.assert_close(masked(torch.ones(2, 1, 8, 8))[0], plain)


def test_a_small_mask_counts_as_much_as_a_large_one() -> None:
    mask = torch.zeros(2, 1, 8, 8)
    mask[0, :, :2, :2], mask[1] = 1, 1
    assert normalised_mask(mask, 0.0).mean(dim=(1, 2, 3)).tolist() == [1, 1]


def test_a_mask_of_nothing_gives_no_loss_and_no_nan() -> None:
    assert masked(torch.zeros(2, 1, 8, 8))[0].tolist() == [0, 0]


@pytest.fixture
def transparent(tmp_path: Path) -> Path:
    """Six pictures whose left half alone is opaque, in two sets that differ only where they are not."""
    for name, hidden in (("one", (0, 0, 255)), ("other", (0, 255, 0))):
        for number in range(6):
            image = Image.new("RGBA", (64, 64), (*hidden, 0))
            image.paste((40 * number, 200, 90, 255), (0, 0, 32, 64))
            (tmp_path / name).mkdir(exist_ok=True)
            image.save(tmp_path / name / f"{number}.png")
    return tmp_path


def test_alpha_is_the_mask_and_the_run_says_for_how_many(
    train: Callable[..., Run], transparent: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(f"data.root={transparent / 'one'}", "data.masks=alpha", "train.steps=2", plugins=MASKED)
    assert "masks (data.masks = 'alpha') are active for 6 of 6 pictures" in caplog.text


def test_masks_that_no_plugin_reads_are_refused(train: Callable[..., Run], transparent: Path) -> None:
    with pytest.raises(ConfigError, match=r"6 pictures have mask.*plugins\.masked_loss\.MaskedLoss"):
        train(f"data.root={transparent / 'one'}", "data.masks=alpha")


@pytest.mark.parametrize("cached", ["true", "false"])
def test_a_mask_beside_a_picture_is_read_and_cached(
    train: Callable[..., Run], transparent: Path, caplog: pytest.LogCaptureFixture, cached: str
) -> None:
    from tests.small_runs import assert_same_state

    settings = (f"data.root={transparent / 'one'}", "data.masks=sidecar", "train.steps=3")
    for number in range(6):
        mask = Image.new("L", (64, 64), 0)
        mask.paste(255, (0, 0, 8 + 8 * number, 64))
        mask.save(transparent / "one" / f"{number}.mask.png")
    plain = train(*settings, "run.name=plain", plugins=MASKED)
    other = train(*settings, f"cache.latents={cached}", "run.name=other", plugins=MASKED)
    assert_same_state(plain, other)
    assert "are active for 6 of 6" in caplog.text
    Image.new("L", (64, 64), 255).save(transparent / "one" / "0.mask.png")
    caplog.clear()
    changed = train(*settings, f"cache.latents={cached}", "run.name=changed", plugins=MASKED)
    with pytest.raises(AssertionError):
        assert_same_state(plain, changed)
    if cached == "true":
        assert "latents: 5 reused, 1 to encode, 1 orphaned" in caplog.text
