"""Whenever a run's process ends, it goes on from its last checkpoint to the same bits as a run that nobody stopped."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.small_runs import Run, assert_same_state

STATE = """
[[plugins]]
use = "plugins.ema.Ema"
[[plugins]]
use = "tests.core.plugins_for_tests.Counter"
[[plugins]]
use = "plugins.captions.DropCaption"
probability = 0.5
"""


def at(kind: str, step: int, extra: str = "") -> str:
    return f'{STATE}[[plugins]]\nuse = "tests.core.plugins_for_tests.{kind}"\nstep = {step}\n{extra}'


@pytest.mark.parametrize("step", [3, 6])
def test_a_kill_in_the_middle_of_an_epoch_costs_no_bit(
    train: Callable[..., Run], run_command: Callable[..., Run], step: int
) -> None:
    whole = train("run.name=whole", plugins=STATE)
    killed = run_command(plugins=at("KillAt", step))
    assert killed.exit_code == -signal.SIGKILL
    resumed = train(plugins=STATE)
    assert_same_state(resumed, whole)


def test_a_run_may_go_on_with_another_number_of_workers(train: Callable[..., Run]) -> None:
    whole = train("run.name=whole", plugins=STATE)
    train("train.steps=4", plugins=STATE)
    resumed = train("data.workers=2", plugins=STATE)
    assert_same_state(resumed, whole)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_finishes_the_step_saves_and_says_how_to_go_on(
    train: Callable[..., Run], run_command: Callable[..., Run], number: signal.Signals, code: int
) -> None:
    stopped = run_command("data.workers=1", plugins=at("SignalAt", 3, f"number = {int(number)}\n"))
    assert stopped.exit_code == code, stopped.output
    assert (stopped.folder / "checkpoints" / "step-00000003").is_dir()
    assert "go on with: python run.py train" in stopped.output
    whole = train("run.name=whole", plugins=STATE)
    assert_same_state(train(plugins=STATE), whole)


def test_a_finished_run_says_so_and_is_left_alone(run_command: Callable[..., Run]) -> None:
    first = run_command("train.steps=2")
    before = {path: path.stat().st_mtime_ns for path in first.folder.rglob("*")}
    second = run_command("train.steps=2")
    assert second.exit_code == 0
    assert "is finished: step 2 of 2" in second.output
    assert {path: path.stat().st_mtime_ns for path in first.folder.rglob("*")} == before


def test_fresh_starts_the_next_number_and_auto_then_means_that_one(train: Callable[..., Run]) -> None:
    train("train.steps=2")
    assert train("train.steps=2", fresh=True).folder.name == "test-2"
    assert train("train.steps=3").folder.name == "test-2"


def test_never_refuses_a_run_that_is_there(train: Callable[..., Run]) -> None:
    from core.errors import ConfigError

    train("train.steps=2")
    with pytest.raises(ConfigError, match=r"run\.resume = 'never'"):
        train("run.resume=never")


def test_a_change_that_would_alter_the_meaning_of_a_checkpoint_is_refused(train: Callable[..., Run]) -> None:
    from core.errors import CheckpointError

    train("train.steps=2")
    with pytest.raises(CheckpointError, match=r"run\.seed  0 -> 1"):
        train("run.seed=1")


def test_a_harmless_change_is_told_and_applied(train: Callable[..., Run], caplog: pytest.LogCaptureFixture) -> None:
    train("train.steps=2")
    train("train.learning_rate=5e-4")
    said = [record.getMessage() for record in caplog.records if "changed since" in record.getMessage()]
    assert any("train.learning_rate" in line and "0.0005" in line for line in said)


def test_a_changed_plan_is_told(train: Callable[..., Run], caplog: pytest.LogCaptureFixture) -> None:
    train("train.steps=2", plugins=STATE)
    train(plugins=STATE.replace("probability = 0.5", "probability = 0.5\npriority = 7"))
    said = [record.getMessage() for record in caplog.records if "changed in the plan" in record.getMessage()]
    assert len(said) == 2
    assert "+      7  DropCaption" in said[1]


def test_other_data_in_the_middle_of_an_epoch_is_refused(train: Callable[..., Run]) -> None:
    from core.errors import CheckpointError

    train("train.steps=2")
    with pytest.raises(CheckpointError, match="in the middle of epoch 0"):
        train("train.batch_size=3")


def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(
    train: Callable[..., Run], caplog: pytest.LogCaptureFixture
) -> None:
    whole = train("run.name=whole", plugins=STATE)
    stopped = train("train.steps=5", plugins=STATE)
    newest = stopped.folder / "checkpoints/step-00000005/weights.safetensors"
    data = bytearray(newest.read_bytes())
    data[-1] ^= 1
    newest.write_bytes(bytes(data))
    resumed = train(plugins=STATE)
    assert_same_state(resumed, whole)
    assert any("weights.safetensors is damaged" in record.getMessage() for record in caplog.records)


def test_the_resolved_config_and_the_log_lie_in_the_run(train: Callable[..., Run]) -> None:
    import tomli

    run = train("train.steps=2", "train.learning_rate=3e-4")
    assert tomli.loads((run.folder / "config.toml").read_text())["train"]["learning_rate"] == 3e-4
    lines = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    assert any("checkpoint" in line["event"] for line in lines)


def test_accumulation_that_a_plugin_sets_is_in_effect_from_the_next_epoch_and_over_a_resume(
    train: Callable[..., Run],
) -> None:
    plugins = STATE + '[[plugins]]\nuse = "tests.core.plugins_for_tests.SetAccumulate"\n'
    whole = train("run.name=whole", plugins=plugins)
    assert whole.bus is not None
    assert whole.bus.plugins["SetAccumulate"].seen == [(0, 1), (1, 2), (2, 2)]  # type: ignore[attr-defined]
    train("train.steps=4", plugins=plugins)
    assert_same_state(train(plugins=plugins), whole)


def test_a_skipped_batch_is_used_up_without_a_step(train: Callable[..., Run]) -> None:
    run = train("train.steps=5", plugins='\n[[plugins]]\nuse = "tests.core.plugins_for_tests.SkipStep"\n')
    position = run.state()["state"]["position"]  # type: ignore[index]
    assert position["step"] == 5
    assert position["epoch"] * 3 + position["batches_done"] == 6


def test_skipping_every_batch_ends_with_an_error_and_not_never(train: Callable[..., Run]) -> None:
    from core.errors import DataError

    with pytest.raises(DataError, match="every batch of epoch 0 was skipped"):
        train(plugins='\n[[plugins]]\nuse = "tests.core.plugins_for_tests.SkipAll"\n')


def test_a_renamed_picture_is_refused_and_may_be_accepted(
    train: Callable[..., Run], picture_folder: Path, tmp_path: Path
) -> None:
    """Whether the run stands within an epoch or between two."""
    import shutil

    from core.errors import DataError

    data = tmp_path / "copy"
    shutil.copytree(picture_folder, data)
    train(f"data.root={data}", "train.steps=2")
    (data / "birds" / "owl.png").rename(data / "birds" / "owls.png")
    with pytest.raises(DataError, match=r"1 picture was added \(such as copy/birds/owls.png\), 1 was removed"):
        train(f"data.root={data}")
    run = train(f"data.root={data}", "train.steps=3", accept_data_change=True)
    assert run.state()["state"]["position"]["epoch"] == 1  # type: ignore[index]


def test_a_configure_handler_changes_the_run_before_anything_is_made(train: Callable[..., Run]) -> None:
    run = train(plugins='\n[[plugins]]\nuse = "tests.core.plugins_for_tests.Reconfigure"\n')
    assert run.folder.name == "renamed"
    assert run.state()["step"] == "step-00000002"


def test_a_stop_ends_after_the_step_with_a_checkpoint(train: Callable[..., Run]) -> None:
    run = train(plugins='\n[[plugins]]\nuse = "tests.core.plugins_for_tests.StopAt"\nstep = 3\n')
    assert run.state()["step"] == "step-00000003"


def test_a_class_style_plugin_really_changes_the_accumulation_of_the_next_epoch(train: Callable[..., Run]) -> None:
    """Ten pictures in batches of four are three steps, and one step once four batches are accumulated."""
    run = train("train.steps=5", plugins='\n[[plugins]]\nuse = "tests.core.plugins_for_tests.RampInClassStyle"\n')
    assert run.bus is not None
    assert run.bus.plugins["RampInClassStyle"].lengths == [3, 1, 1]  # type: ignore[attr-defined]
    assert run.state()["state"]["position"]["images"] == 30  # type: ignore[index]
