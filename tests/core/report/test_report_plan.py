"""`run.py data --plan` says which picture is in which step, as training then has it."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import ConfigError
from core.report.plan_file import plan_rows, require_plan_suffix, write_plan
from tests.core.plugins_for_report import Recorder
from tests.core.surveying import plugin, survey_of
from tests.small_runs import Run

WriteConfig = Callable[..., Path]


@pytest.fixture
def repeated(picture_folder: Path, tmp_path: Path) -> Path:
    """The pictures, of which some are shown more often."""
    folder = tmp_path / "repeated"
    shutil.copytree(picture_folder, folder)
    (folder / "birds" / "multiply.txt").write_text("2.5")
    (folder / "fruit" / "batch_id.txt").write_text("fruit")
    return folder


def test_the_ids_of_each_step_are_those_that_training_uses(
    train: Callable[..., Run], write_config: WriteConfig, repeated: Path
) -> None:
    plugins = plugin("Recorder") + plugin("plugins.captions.DropCaption")
    overrides = ("train.steps=9", "train.accumulate=2", "data.short_batches=fill", f"data.root={repeated}")
    train(*overrides, plugins=plugins)
    trained = [
        (step, epoch, number, batch.sample_ids, batch.keys)
        for step, epoch, batches in Recorder.newest.steps
        for number, batch in enumerate(batches)
    ]
    with survey_of(write_config(plugins), *overrides) as survey:
        rows = list(plan_rows(survey))
    planned = dict.fromkeys((row.step, row.epoch, row.round) for row in rows)
    assert list(planned) == [(step, epoch, number) for step, epoch, number, _, _ in trained]
    for step, epoch, number, ids, keys in trained:
        own = [row for row in rows if (row.step, row.epoch, row.round) == (step, epoch, number)]
        assert tuple(row.item for row in own) == ids
        assert [(row.repeat, row.copy) for row in own] == [(key.repeat, key.variant) for key in keys]
        assert [row.place for row in own] == list(range(len(ids)))
    assert {row.step for row in rows} == set(range(1, 10))
    assert any(row.repeat for row in rows)
    assert any(row.copy for row in rows)
    assert any(number for _, _, number, _, _ in trained)


def test_an_epoch_plan_plugin_is_in_it(write_config: WriteConfig) -> None:
    with survey_of(write_config()) as survey:
        whole = sum(row.epoch == 0 for row in plan_rows(survey, 1))
    with survey_of(write_config(plugin("LastBatchOut"))) as survey:
        assert len(list(plan_rows(survey, 1))) < whole


@pytest.mark.parametrize("epochs", [1, 2])
def test_so_many_epochs_are_whole_whatever_the_steps_of_the_run(write_config: WriteConfig, epochs: int) -> None:
    with survey_of(write_config(), "train.steps=1") as survey:
        rows = list(plan_rows(survey, epochs))
    assert len(rows) == 10 * epochs
    assert sorted({row.epoch for row in rows}) == list(range(epochs))
    assert rows[-1].step == 3 * epochs


def test_the_run_ends_within_an_epoch_when_its_steps_do(write_config: WriteConfig) -> None:
    with survey_of(write_config(), "train.steps=4") as survey:
        rows = list(plan_rows(survey))
    assert list(dict.fromkeys((row.step, row.epoch) for row in rows)) == [(1, 0), (2, 0), (3, 0), (4, 1)]
    assert sum(row.epoch == 0 for row in rows) == 10


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_a_row_has_place_path_and_size(write_config: WriteConfig, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"plan{suffix}"
    with survey_of(write_config(), "train.steps=2") as survey:
        samples, steps = write_plan(survey, path)
        planned = [key.item for batch in survey.plan[:2] for key in batch]
        items = {item.id: item for item in survey.sets.training.items}
    text = path.read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines())) if suffix == ".csv" else list(map(json.loads, text.splitlines()))
    assert (samples, steps) == (len(planned), 2) == (len(rows), 2)
    for row in rows:
        assert row["path"] == str(items[row["item"]].path)
        assert (int(row["width"]), int(row["height"])) == (32, 32)
    assert {(int(row["batch"]), int(row["step"])) for row in rows} == {(0, 1), (1, 2)}


def test_a_name_that_is_no_unicode_can_be_written(
    write_config: WriteConfig, picture_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    shutil.copy(next(picture_folder.rglob("*.png")), folder / "a\udce9.png")
    for name in ("plan.csv", "plan.jsonl"):
        with survey_of(write_config(), f"data.root={folder}", "train.steps=1") as survey:
            write_plan(survey, tmp_path / name)
        assert "udce9" in (tmp_path / name).read_text(encoding="utf-8")


def test_another_suffix_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"plan\.txt  ends in neither \.jsonl nor \.csv"):
        require_plan_suffix(Path("plan.txt"))
