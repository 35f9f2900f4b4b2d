"""What a run writes of itself can be read back by whoever looks at it: while it goes on, when it is over, and when it was killed."""

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import ConfigError
from core.history.facts import RECORD, SESSION, Data
from core.history.reading import is_locked, read_curves, read_run
from core.history.recording import write_facts
from core.log.redaction import Redactor
from core.run_folder.lock import locked
from events.errors import PluginError
from tests.small_runs import Run, sets
from tests.warm import start_py

FAILING = '\n[[plugins]]\nuse = "tests.core.plugins_for_tests.Failing"\n'
FILE = '\n[[plugins]]\nuse = "plugins.metrics_file.MetricsFile"\n'


def test_a_complete_run_says_what_it_did(train: Callable[..., Run]) -> None:
    done = train("train.steps=4", "preview.at_end=true", "validation.fraction=0.3", plugins=FILE)
    history = read_run(done.folder)
    assert (history.state, history.step, history.steps, history.name) == ("complete", 4, 4, "test")
    assert history.session is not None
    assert history.session.reason == "complete"
    assert history.session.ended >= history.session.began
    assert [plugin.use for plugin in history.session.plugins] == ["plugins.metrics_file.MetricsFile"]
    assert history.session.seconds["steps"] > 0
    assert [time.plugin for time in history.session.times][:1] == ["MetricsFile"]
    assert history.data is not None
    assert (history.data.items, history.data.validation) == (5, {"held_out": 5})
    assert history.data.buckets == {"32x32": 5}
    assert "metrics.ready" in [one.name for one in history.plan.signals]
    assert [step for step, _ in history.curves["loss"]] == [2, 4]
    assert history.checkpoints == (2, 4)
    assert history.problems == ()


def test_each_round_of_previews_says_what_its_pictures_show(train: Callable[..., Run]) -> None:
    done = train("train.steps=2", "preview.at_end=true")
    (last,) = read_run(done.folder).rounds
    assert (last.step, last.reason, len(last.pictures)) == (2, "end", 2)
    assert all((done.folder / "previews" / "step-000002" / one.file).is_file() for one in last.pictures)
    assert all(one.text for one in last.pictures)


def test_the_best_is_the_lowest_validation_loss_and_without_one_the_lowest_loss(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("")
    lines = [{"step": 1, "values": {"loss": 0.5}}, {"step": 2, "values": {"loss": 0.1}}]
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert read_run(tmp_path).best() == ("loss", 2, 0.1)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(
            '{"step": 2, "values": {"validation/held_out": 0.9}}\n{"step": 3, "values": {"validation/held_out": 1}}\n'
        )
    assert read_run(tmp_path).best() == ("validation/held_out", 2, 0.9)


def test_a_failed_run_says_why(train: Callable[..., Run], tmp_path: Path) -> None:
    with pytest.raises(PluginError):
        train("train.steps=4", plugins=FAILING)
    history = read_run(tmp_path / "runs" / "test")
    assert history.state == "failed"
    assert history.session is not None
    assert history.session.exit_code == 6
    assert "Failing" in history.session.error
    assert history.session.stage == "training"


def test_a_killed_run_is_interrupted_and_its_steps_are_known(write_config: Callable[..., Path]) -> None:
    config = write_config(FILE)
    with start_py("train", str(config), *sets(["train.steps=100000"])) as process:
        folder = config.parent / "runs" / "test"
        until = time.monotonic() + 240
        while not (folder / "metrics.jsonl").is_file() and time.monotonic() < until:
            time.sleep(0.05)
        assert read_run(folder).state == "running"
        process.send_signal(signal.SIGKILL)
        process.wait()
    history = read_run(folder)
    assert history.state == "interrupted"
    assert history.step >= 2
    assert history.session is not None
    assert history.session.command[:3] == ("python", "run.py", "train")


def test_looking_at_a_run_does_not_keep_it_from_being_trained(tmp_path: Path) -> None:
    with locked(tmp_path):
        assert is_locked(tmp_path)
    assert not is_locked(tmp_path)
    with locked(tmp_path):
        pass


def test_secrets_stay_out_of_the_record(
    train: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", "out of cheese")  # which the plugin's error says
    with pytest.raises(PluginError):
        train("train.steps=4", plugins=FAILING)
    written = (tmp_path / "runs" / "test" / RECORD / SESSION).read_text()
    assert "out of cheese" not in written
    assert "[redacted]" in written


def test_a_name_that_is_no_text_is_told_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    write_facts(path, Data(items=1, without_caption=0, buckets={}, problems=("a\udcff.png is broken",)), Redactor())
    assert Data.model_validate_json(path.read_bytes()).problems == ("a?.png is broken",)


def test_a_file_that_cannot_be_read_is_named_and_the_rest_is_there(train: Callable[..., Run]) -> None:
    done = train("train.steps=2", plugins=FILE)
    (done.folder / RECORD / SESSION).write_text('{"status": 3')
    with (done.folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "val')
    history = read_run(done.folder)
    assert [problem.endswith("session.json: ValidationError") for problem in history.problems] == [True]
    assert history.state == "unknown"
    assert "loss" in history.curves


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no config\.toml"):
        read_run(tmp_path)


def test_of_a_step_that_was_told_twice_the_newest_value_counts(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "values": {"a": 1.0}}\n{"step": 1, "values": {"a": 2.0, "b": null}}\nno json\n')
    assert read_curves(path) == {"a": [(1, 2.0)]}
