"""`run.py check` says whether a run can go on from where it stands, and what keeps it from that."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.core.checking import checked
from tests.core.surveying import plugin
from tests.small_runs import Run

WriteConfig = Callable[..., Path]
Train = Callable[..., Run]
CHECKS = "tests.core.plugins_for_checks."


@pytest.fixture
def trained(train: Train) -> Run:
    return train("train.steps=4")


def newest(run: Run) -> Path:
    return sorted((run.folder / "checkpoints").iterdir())[-1]


def test_a_run_that_can_go_on_is_in_order_and_says_what_has_changed(trained: Run, write_config: WriteConfig) -> None:
    lines, problems = checked(write_config(), "train.steps=9", "train.learning_rate=0.5")
    assert problems == []
    assert any(line.endswith("runs/test is unfinished, at step 4 of 9") for line in lines)
    assert any("changed since the checkpoint: train.learning_rate  0.001 -> 0.5" in line for line in lines)


def test_a_finished_run_is_said_to_be_that_and_not_held_against_its_checkpoint(
    trained: Run, write_config: WriteConfig
) -> None:
    lines, problems = checked(write_config(), "train.steps=4", "run.seed=7")
    assert problems == []
    assert any(line.endswith("runs/test is finished, at step 4 of 4") for line in lines)


def test_settings_that_would_give_the_checkpoint_another_meaning_are_refused(
    trained: Run, write_config: WriteConfig
) -> None:
    _, problems = checked(write_config(), "run.seed=7")
    assert len(problems) == 1
    assert "the run cannot go on with these settings changed" in problems[0]
    assert "run.seed  0 -> 7" in problems[0]


def test_data_that_have_changed_are_refused(
    trained: Run, write_config: WriteConfig, picture_folder: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(picture_folder, tmp_path / "other" / "pictures"))
    _, problems = checked(write_config(), f"data.root={other}")
    assert problems == []
    (other / "birds" / "owl.png").unlink()
    _, problems = checked(write_config(), f"data.root={other}")
    assert len(problems) == 1
    assert "the data has changed since the checkpoint: 1 picture was removed" in problems[0]


def test_other_weights_than_those_of_the_checkpoint_are_refused(trained: Run, write_config: WriteConfig) -> None:
    _, problems = checked(write_config(), "train.parameters=[{match = 'unet.conv_in.*', freeze = true}]")
    assert len(problems) == 1
    assert "other weights are trained now than then" in problems[0]
    assert "unet.conv_in" in problems[0]


def test_a_damaged_newest_checkpoint_is_passed_over_and_said(trained: Run, write_config: WriteConfig) -> None:
    file = newest(trained) / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    lines, problems = checked(write_config())
    assert problems == []
    assert any("is unfinished, at step 2 of 7" in line for line in lines)
    assert any("passed over, since it is damaged: " in line and "step-00000004: weights" in line for line in lines)


def test_a_run_with_no_whole_checkpoint_is_refused_beside_what_else_is_wrong(
    trained: Run, write_config: WriteConfig
) -> None:
    for checkpoint in (trained.folder / "checkpoints").iterdir():
        (checkpoint / "state.json").write_text("")
    _, problems = checked(write_config(plugin(CHECKS + "NoWeight")))
    assert len(problems) == 2
    assert "no checkpoint can be used; start anew with --fresh" in problems[0]
    assert "there is no weight for" in problems[1]


def test_a_state_that_a_plugin_cannot_take_back_is_told(train: Train, write_config: WriteConfig) -> None:
    train("train.steps=2", plugins=plugin(CHECKS + "Strict"))
    assert checked(write_config(plugin(CHECKS + "Strict")))[1] == []
    _, problems = checked(write_config(plugin(CHECKS + "Strict", key="other")))
    assert len(problems) == 1
    assert problems[0].startswith("plugin Strict cannot take back its state: KeyError: 'other'")


def test_a_plugin_that_first_sees_the_model_is_not_given_its_state(train: Train, write_config: WriteConfig) -> None:
    plugins = plugin("plugins.ema.Ema") + plugin("tests.core.plugins_for_tests.Counter")
    train("train.steps=2", plugins=plugins + plugin(CHECKS + "StrictOfModel"))
    _, problems = checked(write_config(plugins + plugin(CHECKS + "StrictOfModel", key="other")))
    assert problems == []


def test_a_run_that_must_not_be_resumed_is_refused(trained: Run, write_config: WriteConfig) -> None:
    _, problems = checked(write_config(), "run.resume=never")
    assert problems == [f"run.resume = 'never' and {trained.folder} exists; use --fresh for test-2"]
