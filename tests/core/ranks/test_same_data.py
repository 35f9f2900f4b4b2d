"""A rank that finds other data than the main one is told so at the start, once, with what differs."""

import json
import shutil
from pathlib import Path

import pytest

from tests.core.ranks.launching import train_in_processes
from tests.small_runs import CONFIG

HERE = '[[plugins]]\nuse = "tests.core.ranks.plugins_for_split.{}"\n'


@pytest.fixture
def config(tmp_path: Path, model_folder: Path, picture_folder: Path) -> Path:
    """With a picture that cannot be used, and a folder that a killed rank has left behind."""
    shutil.copytree(picture_folder, tmp_path / "data")
    (tmp_path / "data" / "no picture.png").write_text("no picture")
    (tmp_path / "runs" / "test" / "items-rank-7").mkdir(parents=True)
    values = {"dir": tmp_path / "runs", "model": model_folder, "data": tmp_path / "data", "cache": tmp_path / "cache"}
    text = CONFIG.format(**{key: json.dumps(str(value)) for key, value in values.items()})
    (tmp_path / "config.toml").write_text(text)
    return tmp_path / "config.toml"


def test_other_data_on_another_rank_end_the_run_before_it_trains(config: Path) -> None:
    config.write_text(config.read_text() + HERE.format("Drops"))
    run = train_in_processes(config, "data.max_bad_fraction=0.5", "validation.fraction=0.2")
    assert run.exit_code == 3, run.output
    assert run.output.count("rank 1 has found other data than rank 0") == 1, run.output
    told = "the training pictures: 7 in place of 8; 1 picture was removed, 1 was changed (such as data/animals/fox.png)"
    assert told in run.output
    assert not list((run.folder / "checkpoints").iterdir())


def test_what_cannot_be_used_is_named_once_and_only_the_main_ranks_table_stays(config: Path) -> None:
    run = train_in_processes(config, "data.max_bad_fraction=0.5", "train.steps=1")
    assert run.exit_code == 0, run.output
    assert run.output.count("set aside: ") == 1, run.output
    assert [path.name for path in run.folder.glob("items*")] == ["items"]
