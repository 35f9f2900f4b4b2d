"""A look at a sample shows what training shows: the same pixels, captions and tokens, and what each plugin did."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from core.pages.thumbnails import picture_of
from core.report.sheet import Sheet, overlay
from events.errors import PluginError
from tests.core.plugins_for_report import Recorder
from tests.core.surveying import plugin, survey_of
from tests.small_runs import Run

WriteConfig = Callable[..., Path]
CHANGING = (
    plugin("plugins.captions.DropCaption", probability=0.3)
    + plugin("plugins.captions.ShuffleTags", keep=0)
    + plugin("plugins.image_color.Gamma", low=0.5, high=2.0)
    + plugin("tests.core.plugins_for_tests.Jitter")
)
RANDOM = ("data.crop=random", "data.flip_p=0.5", "data.max_aspect=2.0")


@pytest.fixture
def uneven(picture_folder: Path, tmp_path: Path) -> Path:
    """Pictures of many shapes, with tags; owls are shown twice."""
    folder = tmp_path / "uneven"
    shutil.copytree(picture_folder, folder)
    for number, path in enumerate(sorted(folder.rglob("*.png"))):
        with Image.open(path) as image:
            image.convert("RGB").resize((60 + 13 * number, 90)).save(path)
        path.with_suffix(".txt").write_text(f"{path.stem}, big, small, round", encoding="utf-8")
    (folder / "birds" / "owl.yaml").write_text("multiply: 2\n")
    return folder


def test_it_is_exactly_what_training_shows(train: Callable[..., Run], write_config: WriteConfig, uneven: Path) -> None:
    overrides = (*RANDOM, f"data.root={uneven}", "train.steps=12")
    train(*overrides, plugins=CHANGING + plugin("Recorder"))
    seen = 0
    for epoch in (0, 1):
        with survey_of(write_config(CHANGING), *overrides, epoch=epoch) as survey:
            sheet = Sheet(survey)
            trained = [batches for _, of_epoch, batches in Recorder.newest.steps if of_epoch == epoch]
            for number, (batch,) in enumerate(trained):
                for place, key in enumerate(batch.keys):
                    shown = sheet.show(number, key)
                    assert shown.picture is not None
                    assert batch.pixels is not None
                    assert torch.equal(shown.picture.made.pixels, batch.pixels[place])
                    assert shown.words.trained == batch.captions[place]
                    assert list(shown.picture.made.geometry) == batch.geometry[place].tolist()
                    seen += 1
    assert seen == 22
    assert "" in {caption for _, _, (batch,) in Recorder.newest.steps for caption in batch.captions}


def test_the_chosen_items_are_spread_over_the_data_set_and_stand_in_the_plan(write_config: WriteConfig) -> None:
    with survey_of(write_config()) as survey:
        sheet = Sheet(survey)
        chosen = sheet.choose(5)
        assert [key.item for _, key in chosen] == [0, 2, 4, 6, 8]
        assert all(key in survey.plan[batch] for batch, key in chosen)
        assert sheet.choose(5) == chosen
        assert [key.item for _, key in sheet.choose(99)] == list(range(10))


def test_pictures_that_the_epoch_does_not_show_are_not_chosen(write_config: WriteConfig, uneven: Path) -> None:
    (uneven / "fruit" / "multiply.txt").write_text("0")
    with survey_of(write_config(), f"data.root={uneven}") as survey:
        ids = [survey.sets.training.items[key.item].id for _, key in Sheet(survey).choose(99)]
    assert len(ids) == 8
    assert not any("fruit" in name for name in ids)


def test_each_handler_is_noted_with_what_it_was_given_and_made(write_config: WriteConfig, uneven: Path) -> None:
    plugins = (
        plugin("plugins.captions.Affix", prefix="a ")
        + plugin("plugins.captions.LimitCaption")
        + plugin("Darken")
        + plugin("Weigh")
    )
    with survey_of(write_config(plugins), f"data.root={uneven}") as survey:
        shown = next(shown for shown in Sheet(survey).samples(99) if "owl" in shown.item.id)
    affix, limit = shown.words.changes
    assert (affix.plugin, affix.before, affix.after, affix.changed) == (
        "Affix", "owl, big, small, round", "a owl, big, small, round", True,
    )  # fmt: skip
    assert (limit.plugin, limit.changed) == ("LimitCaption", False)
    assert shown.picture is not None
    (darken,) = shown.picture.pixel_changes
    assert torch.equal(darken.before * 0.5 - 0.5, shown.picture.made.pixels)
    assert torch.equal(shown.picture.cropped, darken.before)
    (weigh,) = shown.settings_changes
    assert (weigh.before.loss_scale, weigh.after.loss_scale, shown.settings.loss_scale) == (1.0, 0.5, 0.5)


def test_a_handler_that_paints_on_its_picture_is_seen_too(write_config: WriteConfig) -> None:
    with survey_of(write_config(plugin("PaintInPlace"))) as survey:
        (shown,) = Sheet(survey).samples(1)
    assert shown.picture is not None
    (change,) = shown.picture.changes
    assert change.changed
    assert change.before.getpixel((0, 0)) == shown.picture.original.getpixel((0, 0)) == (255, 255, 255)
    assert change.after.getpixel((0, 0)) == (0, 0, 255)


def test_tokens_and_the_end_that_is_not_read_are_those_of_the_trained_caption(
    write_config: WriteConfig, uneven: Path
) -> None:
    (uneven / "birds" / "owl.txt").write_text("owl " * 40 + "in the barn")
    with survey_of(write_config(), f"data.root={uneven}") as survey:
        shown = {Path(shown.item.id).stem: shown for shown in Sheet(survey).samples(99)}
        limit = survey.side.token_limit
        owl, duck = shown["owl"].words, shown["duck"].words
        assert (owl.limit, owl.tokens) == (limit, *survey.side.count_tokens([owl.trained]))
        assert owl.trained.endswith(owl.cut)
        read = owl.trained.removesuffix(owl.cut)
        next_word = owl.cut.split()[0]
        assert survey.side.count_tokens([read])[0] <= limit < survey.side.count_tokens([f"{read} {next_word}"])[0]
        assert (duck.tokens, duck.cut) == (survey.side.count_tokens([duck.trained])[0], "")


def test_a_file_that_broke_since_the_scan_is_told_with_its_reason(write_config: WriteConfig, uneven: Path) -> None:
    with survey_of(write_config(), f"data.root={uneven}") as survey:
        path = uneven / "birds" / "owl.png"
        path.write_bytes(path.read_bytes()[:300])
        shown = next(shown for shown in Sheet(survey).samples(99) if shown.item.path == path)
    assert shown.picture is None
    assert "truncated" in shown.problem
    assert shown.words.trained == "owl, big, small, round"


def test_a_plugin_that_fails_is_named(write_config: WriteConfig) -> None:
    with survey_of(write_config(plugin("FailOnOwls"))) as survey, pytest.raises(PluginError, match="FailOnOwls"):
        list(Sheet(survey).samples(99))


def test_pixels_become_the_picture_they_stand_for() -> None:
    pixels = torch.tensor([-1.0, 0.0, 1.0, 5.0]).reshape(1, 1, 4).repeat(3, 1, 1)
    picture = picture_of(pixels)
    assert picture.size == (4, 1)
    assert [picture.getpixel((x, 0)) for x in range(4)] == [(0,) * 3, (128,) * 3, (255,) * 3, (255,) * 3]


def test_a_mask_leaves_the_picture_where_the_loss_counts() -> None:
    pixels = torch.ones(3, 16, 16)
    mask = torch.tensor([[[1.0, 0.0]]])
    shown = overlay(pixels, mask)
    assert shown.getpixel((0, 8)) == (255, 255, 255)
    red, green, _ = shown.getpixel((15, 8))
    assert green < red < 255
