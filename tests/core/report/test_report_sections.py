"""The report says what a run would train on: sources, problems, captions, sizes, settings, and what plugins change."""

import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

from core.errors import ConfigError
from core.pages.document import Bars, Block, Facts, Listing, Section, Table, number
from core.report.batches import count_buckets
from core.report.contents import report
from core.report.effects import Effects
from core.report.lengths import MOST_CAPTIONS
from core.report.problems import problem_section
from core.report.survey import spread
from core.sources.found import Problem
from tests.core.surveying import plugin, survey_of

WriteConfig = Callable[..., Path]
Report = dict[str, Section]


@pytest.fixture
def pictures(picture_folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(picture_folder, tmp_path / "pictures"))


@pytest.fixture
def report_on(write_config: WriteConfig, pictures: Path) -> Callable[..., Report]:
    """The sections of a report by title."""

    def make(*overrides: str, plugins: str = "", epoch: int = 0) -> Report:
        effects = Effects()
        path = write_config(plugins)
        with survey_of(path, f"data.root={pictures}", *overrides, epoch=epoch, effects=effects) as survey:
            return {section.title: section for section in report(survey, effects, with_pictures=False)}

    return make


def first(section: Section, kind: type[Block]) -> Block:
    return next(block for block in section.blocks if isinstance(block, kind))


def rows(section: Section, place: int = 0) -> list[dict[str, object]]:
    """Those of a section's table, by column."""
    table = [block for block in section.blocks if isinstance(block, Table)][place]
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def facts(section: Section) -> dict[str, str]:
    block = first(section, Facts)
    assert isinstance(block, Facts)
    return dict(block.rows)


def sentences(section: Section) -> str:
    return " ".join(block for block in section.blocks if isinstance(block, str))


def test_the_overview_counts_an_epoch_and_the_run(report_on: Callable[..., Report]) -> None:
    found = facts(report_on("train.accumulate=2", "train.steps=5")["At a glance"])
    assert found["Pictures"] == "10"
    assert (found["Batches an epoch"], found["Steps an epoch"]) == ("3", "2")
    assert (found["Steps of the run"], found["Epochs of the run"]) == ("5", "2.5")
    assert (found["Masks"], found["For validation"], found["Set aside"]) == ("off", "0", "0")


def test_sources_are_told_apart(report_on: Callable[..., Report], pictures: Path, tmp_path: Path) -> None:
    more = tmp_path / "more"
    shutil.copytree(pictures / "birds", more)
    (more / "multiply.txt").write_text("1.5")
    found = rows(report_on(f"data.root=['{pictures}', '{more}']")["Sources"])
    assert [(row["Source"], row["Pictures"], row["Shows an epoch"]) for row in found] == [
        (str(pictures), 10, 10.0),
        (str(more), 2, 3.0),
    ]


def test_captions_say_what_gave_them_and_which_are_empty(report_on: Callable[..., Report], pictures: Path) -> None:
    (pictures / "birds" / "owl.txt").write_text("")
    (pictures / "birds" / "duck.txt").unlink()
    section = report_on()["Captions"]
    assert {row["Given by"]: row["Pictures"] for row in rows(section)} == {".txt": 9, "file name": 1}
    assert "1 caption is empty: pictures/birds/owl.png." in sentences(section)


def test_tokens_are_counted_as_found_and_as_trained(report_on: Callable[..., Report], pictures: Path) -> None:
    for path in pictures.rglob("*.txt"):
        path.write_text("a b c")
    plugins = plugin("plugins.captions.Affix", prefix="d e ") + plugin("plugins.captions.DropCaption", probability=1.0)
    found = rows(report_on(plugins=plugins)["Captions"], 1)
    assert [(row["Least"], row["Median"], row["Most"], row["Empty"]) for row in found] == [(3, 3, 3, 0), (0, 0, 0, 10)]
    found = rows(report_on(plugins=plugin("plugins.captions.Affix", prefix="d e "))["Captions"], 1)
    assert [(row["Least"], row["Median"], row["Most"]) for row in found] == [(3, 3, 3), (5, 5, 5)]


def test_captions_that_are_too_long_are_named_with_what_is_not_read(
    report_on: Callable[..., Report], pictures: Path
) -> None:
    (pictures / "birds" / "owl.txt").write_text("a " * 30 + "the end")
    section = report_on()["Captions"]
    (row,) = rows(section, 2)
    assert row["Picture"] == "pictures/birds/owl.png"
    assert str(row["What is not read"]).endswith("a the end")
    assert "data.max_tokens = 150 or 225 reads more" in sentences(section)
    bars = first(section, Bars)
    assert isinstance(bars, Bars)
    assert bars.rows[-1] == ("over 22", 1)
    assert sum(count for _, count in bars.rows) == 10


def test_of_many_captions_some_are_counted_at_even_distances() -> None:
    chosen = spread(50_000, MOST_CAPTIONS)
    assert len(set(chosen)) == MOST_CAPTIONS
    assert {after - before for before, after in pairwise(chosen)} == {2, 3}


@pytest.mark.parametrize(("short", "copies"), [("keep", 0), ("fill", 2)])
def test_short_batches_are_told_with_their_copies(report_on: Callable[..., Report], short: str, copies: int) -> None:
    section = report_on(f"data.short_batches={short}")["Sizes and batches of epoch 0"]
    (row,) = rows(section)
    assert (row["Pictures"], row["Shown"], row["Batches"], row["Short"], row["Copies"]) == (10, 10, 3, 1, copies)
    assert f"data.short_batches = '{short}'" in sentences(section)


def test_repeats_and_enlarged_pictures_are_counted_by_size(report_on: Callable[..., Report], pictures: Path) -> None:
    (pictures / "birds" / "multiply.txt").write_text("3")
    with Image.open(pictures / "birds" / "owl.png") as image:
        image.resize((20, 20)).save(pictures / "birds" / "owl.png")
    (row,) = rows(report_on()["Sizes and batches of epoch 0"])
    assert (row["Pictures"], row["Shown"], row["Repeats"], row["Enlarged"]) == (10, 14, 4, 1)


def test_several_resolutions_take_turns(report_on: Callable[..., Report]) -> None:
    by_epoch = [
        {row["Resolution"]: row["Pictures"] for row in rows(
            report_on("data.resolution=[32, 64]", epoch=epoch)[f"Sizes and batches of epoch {epoch}"]
        )}
        for epoch in (0, 1)
    ]  # fmt: skip
    assert set(by_epoch[0]) == {"32", "64"}
    assert by_epoch[1] == {"32": by_epoch[0]["64"], "64": by_epoch[0]["32"]}


def test_every_sample_of_the_plan_is_in_one_bucket(write_config: WriteConfig) -> None:
    with survey_of(write_config(), "data.resolution=[32, 64]", "data.short_batches=fill") as survey:
        buckets = count_buckets(survey.plan, survey.sets.training, 4, (32, 64))
        keys = [key for batch in survey.plan for key in batch]
    assert sum(bucket.samples for bucket in buckets) == 10
    assert sum(bucket.samples + bucket.copies for bucket in buckets) == len(keys)
    assert sum(bucket.batches for bucket in buckets) == len(survey.plan)


def test_validation_sets_and_masks_are_counted(
    report_on: Callable[..., Report], pictures: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    Image.new("RGB", (40, 40), "teal").save(other / "teal.png")
    with Image.open(pictures / "birds" / "owl.png") as image:
        owl = image.convert("RGB")
        owl.putalpha(100)
        owl.save(pictures / "birds" / "owl.png")
    masks = ("data.masks=alpha", f"validation.sets.other={other}")
    found = report_on(*masks, plugins=plugin("plugins.masked_loss.MaskedLoss"))
    assert facts(found["At a glance"])["Masks"] == "alpha, 1 of 10"
    assert [(row["Set"], row["Pictures"]) for row in rows(found["Validation"])] == [("other", 1)]


def test_settings_of_single_pictures_are_listed_with_who_acts_on_them(
    report_on: Callable[..., Report], pictures: Path
) -> None:
    (pictures / "birds" / "local.yaml").write_text("cond_dropout: 0.5\nrating: 3\nbatch_id: pair\n")
    (pictures / "fruit" / "loss_scale.txt").write_text("0.25")
    (pictures / "birds" / "owl.yaml").write_text("cond_dropout: 0.75\n")
    section = report_on(plugins=plugin("plugins.captions.DropCaption"))["Settings of single pictures"]
    found = {row["Setting"]: (row["Pictures"], row["Values"], row["Acted on by"]) for row in rows(section)}
    assert found == {
        "cond_dropout": (2, "0.5 (1), 0.75 (1)", "DropCaption"),
        "rating": (2, "3", "nothing"),
        "batch_id": (2, "1 group", "the trainer"),
        "loss_scale": (2, "0.25", "the trainer"),
    }


def test_plugins_are_listed_in_order_with_what_they_changed(report_on: Callable[..., Report]) -> None:
    plugins = (
        plugin("plugins.captions.LimitCaption")
        + plugin("plugins.captions.Affix", prefix="a ")
        + plugin("PaintInPlace")
        + plugin("Weigh")
        + plugin("HalfWeights")
        + plugin("LastBatchOut")
    )
    section = report_on("train.batch_size=1", plugins=plugins)["Plugins"]
    found = [(row["Signal"], row["Plugin"], row["What it does"]) for row in rows(section)]
    assert found[:3] == [
        ("sample.image", "PaintInPlace", "changed 9 of 9 pictures"),
        ("sample.caption", "Affix", "changed 9 of 9 captions"),
        ("sample.caption", "LimitCaption", "changed none of 9 captions"),
    ]
    assert found[3][:2] == ("sample.settings", "Weigh")
    assert found[4:] == [
        ("batch.host", "HalfWeights", "changed 9 of 9 batches"),
        ("epoch.plan", "LastBatchOut", "changed 1 of 1 plan: 10 → 9 samples, 10 → 9 batches"),
    ]
    (example,) = rows(section, 1)
    assert example["After"] == f"a {example['Before']}"


def test_samples_are_spread_over_an_epoch_where_no_plugin_wants_whole_batches(report_on: Callable[..., Report]) -> None:
    plugins = plugin("plugins.captions.DropCaption", probability=1.0) + plugin("Weigh")
    found = [row["What it does"] for row in rows(report_on(plugins=plugins)["Plugins"])]
    assert found == ["changed 10 of 10 captions", "changed 1 of 10 samples' settings"]


def test_crops_that_a_plugin_chooses_are_counted(report_on: Callable[..., Report]) -> None:
    (row,) = rows(report_on(plugins=plugin("plugins.image_crop.CropJitter"))["Plugins"])
    assert (row["Signal"], row["What it does"]) == ("sample.crop", "changed 10 of 10 crops")


def test_items_that_a_plugin_drops_are_counted(report_on: Callable[..., Report]) -> None:
    found = report_on(plugins=plugin("OnlyBirds"))
    (row,) = rows(found["Plugins"])
    assert row["What it does"] == "changed 0 of 10 pictures, dropped 8"
    assert facts(found["At a glance"])["Pictures"] == "2"


def test_a_plugin_that_fails_on_a_sample_is_in_the_report(write_config: WriteConfig) -> None:
    effects = Effects()
    with survey_of(write_config(plugin("FailOnOwls") + plugin("Weigh")), effects=effects) as survey:
        effects.measure(survey)
        section = effects.section(survey.bus)
    listing = first(section, Listing)
    assert isinstance(listing, Listing)
    assert "an owl" in "".join(listing.lines)
    assert effects.failure is not None


def test_problems_that_are_alike_stand_together_and_none_is_left_out() -> None:
    problems = [Problem(path=Path(f"{name}.png"), reason=f"is cut at byte {name}") for name in range(5)]
    problems += [Problem(path=Path("a.png"), reason="is empty"), Problem(path=Path("b.png"), reason="is a folder")]
    alike, others = problem_section(problems).blocks
    assert isinstance(alike, Listing)
    assert isinstance(others, Listing)
    assert alike.title == "5 files: is cut at byte …"
    assert alike.lines == tuple(str(problem) for problem in problems[:5])
    assert others.lines == ("a.png: is empty", "b.png: is a folder")


def test_one_reason_of_many_is_told_once() -> None:
    problems = [Problem(path=Path(f"{name}.png"), reason="is empty") for name in range(4)]
    (listing,) = problem_section(problems).blocks
    assert isinstance(listing, Listing)
    assert listing.title == "4 files: is empty"
    assert listing.lines == ("0.png", "1.png", "2.png", "3.png")


def test_settings_that_no_plugin_reads_are_refused_as_in_training(
    report_on: Callable[..., Report], pictures: Path
) -> None:
    (pictures / "birds" / "cond_dropout.txt").write_text("0.5")
    with pytest.raises(ConfigError, match=r"plugins\.captions\.DropCaption"):
        report_on()


def test_numbers_are_written_for_people() -> None:
    assert [number(value) for value in (1234567, 0.5, 3.0, 1234.567)] == ["1,234,567", "0.5", "3", "1,234.57"]
