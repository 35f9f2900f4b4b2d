"""What the caption and picture plugins make of a sample is the same in a worker, and in another epoch another."""

from pathlib import Path

import pytest
import torch

from events.payloads import Batch
from events.plugin import PluginTable
from tests.core.data.test_samples import load_epoch, same
from tests.small_runs import ROOT

ALL: dict[str, dict[str, object]] = {
    "plugins.image_color.Gamma": {"low": 0.5, "high": 2.0},
    "plugins.image_color.Hsl": {"hue": [-90, 90], "saturation": [0.5, 1.5], "lightness": [0.8, 1.2]},
    "plugins.image_grade.Grade": {"temperature": [-60, 60], "tint": [-10, 10], "contrast": [0.8, 1.2]},
    "plugins.image_curves.Curves": {"rgb": [[0, 40], [255, 220]], "strength": [0, 1]},
    "plugins.image_lut.Lut": {"file": str(ROOT / "examples" / "looks" / "faded.cube"), "strength": [0, 1]},
    "plugins.image_crop.CropJitter": {"scale": [0.4, 1], "aspect": [0.8, 1.25]},
    "plugins.image_crop.Flip": {"horizontal": 0.5, "vertical": 0.5},
    "plugins.image_sharpness.Sharpen": {"amount": [-1, 2]},
    "plugins.caption_words.ReplaceWords": {"words": {"a": "the"}},
    "plugins.caption_words.RemoveWords": {"words": ["the"]},
    "plugins.caption_length.RandomLength": {"low": 1, "high": 2, "unit": "words"},
    "plugins.caption_words.AddWords": {"words": ["film", "night", "snow"], "place": "among", "count": 2},
}
PICTURES = [use for use in ALL if ".image_" in use]


def tables(*uses: str) -> tuple[PluginTable, ...]:
    return tuple(
        PluginTable(use=use, name=use.rpartition(".")[2], position=place, settings=ALL[use])
        for place, use in enumerate(uses)
    )


def of_item(batches: list[Batch], item: int) -> torch.Tensor:
    """Its pixels, once an epoch."""
    found = []
    for batch in batches:
        assert batch.pixels is not None
        found += [pixels for pixels, key in zip(batch.pixels, batch.keys, strict=True) if key.item == item]
    return torch.stack(found)


def test_a_worker_makes_the_same_of_all_of_them(picture_folder: Path) -> None:
    here, there = (load_epoch(picture_folder, workers, tables=tables(*ALL)) for workers in (0, 1))
    assert all(same(one, other) for one, other in zip(here, there, strict=True))
    captions = [caption for batch in here for caption in batch.captions]
    assert all(caption.count(",") == 2 for caption in captions)


@pytest.mark.parametrize("use", PICTURES)
def test_each_changes_pictures_and_draws_anew_in_the_next_epoch(picture_folder: Path, use: str) -> None:
    plain = load_epoch(picture_folder, 0, crop="centre", tables=())
    found = load_epoch(picture_folder, 0, crop="centre", tables=tables(use))
    items = range(10)
    assert any(not torch.equal(of_item(plain, item), of_item(found, item)) for item in items)
    assert any(not torch.equal(*of_item(found, item)) for item in items)
    assert all(torch.equal(*of_item(plain, item)) for item in items)
