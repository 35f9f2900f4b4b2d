"""Upload takes checkpoints elsewhere beside training, keeps them until that is done, and owes none of them."""

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from core.errors import ConfigError
from events.control import Control
from events.payloads import RunInfo
from events.testing import (
    Harness,
    checkpoint_loaded,
    checkpoint_saved,
    export_end,
    retention_context,
    run_error,
    run_info,
    run_start,
)
from plugins.upload import Upload
from tests.small_runs import Run

WAIT_FOR = "import pathlib, shutil, sys, time\nwhile not pathlib.Path(sys.argv[3]).exists(): time.sleep(0.01)\nshutil.copytree(*sys.argv[1:3])"


def checkpoint(run: RunInfo, step: int) -> Any:
    event = checkpoint_saved(run=run, step=step)
    event.path.mkdir(parents=True, exist_ok=True)
    (event.path / "weights.safetensors").write_text(f"weights of {step}")
    return event


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where uploads go."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return folder


@pytest.fixture
def run(tmp_path: Path) -> RunInfo:
    (tmp_path / "demo").mkdir()
    return run_info(tmp_path / "demo", name="demo")


def upload(*command: str, name: str = "", **settings: Any) -> Upload:
    settings = {"retry_seconds": 0.0, "finish_seconds": 60.0} | settings
    return Upload(Upload.Settings(command=command, **settings), name=name)


def copying(place: Path, **settings: Any) -> Upload:
    return upload("cp", "-r", "{path}", f"{place}/{{name}}", **settings)


def when_told(place: Path, go: Path, **settings: Any) -> Upload:
    """Uploads begin and do not end before there is such a file."""
    return upload(sys.executable, "-c", WAIT_FOR, "{path}", f"{place}/{{name}}", str(go), **settings)


def begin(plugin: Upload, run: RunInfo, control: Control | None = None) -> Harness:
    harness = Harness(plugin)
    harness.emit("run.start", run_start(run=run, control=control))
    return harness


def wait_until(is_so: Callable[[], Any]) -> None:
    until = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.01)


def names(place: Path) -> set[str]:
    return {path.name for path in place.iterdir()}


def kept(harness: Harness, run: RunInfo, *going: int) -> set[int]:
    return set(going) - set(harness.apply("checkpoint.retention", going, retention_context(run=run, step=99)))


def test_a_checkpoint_is_uploaded(run: RunInfo, place: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with begin(copying(place), run) as harness:
        harness.emit("checkpoint.saved", checkpoint(run, 10))
    assert (place / "step-00000010" / "weights.safetensors").read_text() == "weights of 10"
    assert "uploaded" in caplog.text


def test_the_places_in_a_command_are_filled_in_once(run: RunInfo, place: Path) -> None:
    words = ("{step} {name}", "{run}{run}", "{other} $HOME {", "{path}")
    command = (
        sys.executable,
        "-c",
        "import json, sys; json.dump(sys.argv[2:], open(sys.argv[1], 'w'))",
        str(place / "words"),
    )
    with begin(upload(*command, *words), run) as harness:
        harness.emit("checkpoint.saved", event := checkpoint(run, 10))
    said = json.loads((place / "words").read_text())
    assert said == ["10 step-00000010", "demodemo", "{other} $HOME {", str(event.path.absolute())]


def test_a_command_says_where_the_path_stands() -> None:
    with pytest.raises(ValidationError, match=r"\{path\} has to stand in one of its words"):
        Upload.Settings(command=("rclone", "copy"))


@pytest.mark.parametrize("what", [("checkpoints",), ("exports",), ("checkpoints", "exports")])
def test_what_is_asked_for_is_uploaded(run: RunInfo, place: Path, what: tuple[str, ...]) -> None:
    export = export_end(run=run, step=20)
    assert export.path is not None
    export.path.mkdir(parents=True)
    with begin(copying(place, what=what), run) as harness:
        harness.emit("checkpoint.saved", checkpoint(run, 10))
        harness.emit("export.end", export)
    expected = {"checkpoints": "step-00000010", "exports": "test-step-000020"}
    assert names(place) == {expected[one] for one in what}


def test_one_that_fails_is_tried_again(run: RunInfo, place: Path, caplog: pytest.LogCaptureFixture) -> None:
    script = f"mkdir '{place}'/one || mkdir '{place}'/two || {{ echo no route; exit 3; }}; [ -d '{place}'/two ] || {{ echo no route; exit 3; }}"
    with begin(upload("sh", "-c", script, "{path}", retries=1), run) as harness:
        harness.emit("checkpoint.saved", checkpoint(run, 10))
    assert names(place) == {"one", "two"}
    assert "exit code 3; next attempt in 0 s\nno route" in caplog.text
    assert "given up" not in caplog.text


def test_one_that_keeps_failing_is_given_up_and_the_next_is_tried(
    run: RunInfo, place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with begin(upload("sh", "-c", f"echo x >>'{place}'/tries; exit 1", "{path}", retries=2), run) as harness:
        for step in (10, 20):
            harness.emit("checkpoint.saved", checkpoint(run, step))
    assert (place / "tries").read_text().count("x") == 6
    assert caplog.text.count("given up") == 2


def test_training_does_not_wait_and_a_checkpoint_stays_until_it_is_uploaded(run: RunInfo, place: Path) -> None:
    go = place.parent / "go"
    with begin(when_told(place, go), run) as harness:
        for step in (10, 20):
            harness.emit("checkpoint.saved", checkpoint(run, step))
        assert kept(harness, run, 10, 20, 5) == {10, 20}
        go.touch()
        wait_until(lambda: kept(harness, run, 10, 20, 5) == set())
    assert names(place) == {"step-00000010", "step-00000020"}


def test_what_is_left_at_the_end_is_ended_and_said(run: RunInfo, place: Path, caplog: pytest.LogCaptureFixture) -> None:
    with begin(when_told(place, place.parent / "never", finish_seconds=0.2), run) as harness:
        for step in (10, 20):
            harness.emit("checkpoint.saved", checkpoint(run, step))
    assert names(place) == set()
    for step in (10, 20):
        assert f"not uploaded: {run.folder}/checkpoints/step-000000{step}" in caplog.text
    assert [thread for thread in threading.enumerate() if thread.name == "signalbox-upload"] == []


def test_ctrl_c_ends_the_wait(run: RunInfo, place: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    control = Control()
    harness = begin(when_told(place, place.parent / "never", finish_seconds=3600), run, control)
    harness.emit("checkpoint.saved", checkpoint(run, 10))
    closing = threading.Thread(target=harness.close)
    closing.start()
    wait_until(lambda: "Ctrl-C leaves them" in caplog.text)
    while closing.is_alive():
        control.stop("interrupted by SIGINT")
        closing.join(0.05)
    assert "not uploaded" in caplog.text


def test_a_wish_to_stop_that_came_too_late_does_not(run: RunInfo, place: Path) -> None:
    control = Control()
    with begin(copying(place), run, control) as harness:
        harness.emit("checkpoint.saved", checkpoint(run, 10))
        control.stop("the loss has not fallen")
    assert names(place) == {"step-00000010"}


def test_a_user_who_wants_to_be_gone_is_not_held_up(run: RunInfo, place: Path) -> None:
    with begin(when_told(place, place.parent / "never", finish_seconds=3600), run) as harness:
        harness.emit("checkpoint.saved", checkpoint(run, 10))
        harness.emit("run.error", run_error(KeyboardInterrupt(), run=run))
    assert names(place) == set()


def test_a_resumed_run_makes_up_for_what_was_left(run: RunInfo, place: Path) -> None:
    with begin(when_told(place, place.parent / "never", finish_seconds=0.0), run) as harness:
        for step in (10, 20, 30):
            harness.emit("checkpoint.saved", checkpoint(run, step))
    for path in (run.folder / "checkpoints" / "step-00000010").iterdir():
        path.unlink()
    (run.folder / "checkpoints" / "step-00000010").rmdir()
    with begin(copying(place), run):
        pass
    assert names(place) == {"step-00000020", "step-00000030"}


def test_what_was_uploaded_is_not_uploaded_again(run: RunInfo, place: Path) -> None:
    with begin(copying(place), run) as harness:
        harness.emit("checkpoint.saved", event := checkpoint(run, 10))
    with begin(upload("touch", f"{place}/again", "{path}"), run) as harness:
        harness.emit("checkpoint.loaded", checkpoint_loaded(run=run, step=10, path=event.path))
    assert names(place) == {"step-00000010"}


def test_one_that_was_saved_when_nobody_lived_to_hear_of_it_is_made_up_for(run: RunInfo, place: Path) -> None:
    event = checkpoint(run, 10)
    with begin(copying(place), run) as harness:
        harness.emit("checkpoint.loaded", checkpoint_loaded(run=run, step=10, path=event.path))
    assert names(place) == {"step-00000010"}


def test_two_uploads_keep_two_records(run: RunInfo, place: Path) -> None:
    for name in ("one", "two"):
        with begin(upload("touch", f"{place}/{name}", "{path}", name=name), run) as harness:
            harness.emit("checkpoint.loaded", checkpoint_loaded(run=run, step=10, path=checkpoint(run, 10).path))
    assert names(place) == {"one", "two"}


def test_of_too_many_that_wait_the_oldest_is_left_out(
    run: RunInfo, place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    go = place.parent / "go"
    with begin(when_told(place, go, most_waiting=1), run) as harness:
        harness.emit("checkpoint.saved", checkpoint(run, 10))
        wait_until(lambda: not harness.bus.plugins["Upload"]._waiting)  # type: ignore[attr-defined]  # it is at work
        for step in (20, 30):
            harness.emit("checkpoint.saved", checkpoint(run, step))
        assert kept(harness, run, 10, 20, 30) == {10, 30}
        go.touch()
    assert names(place) == {"step-00000010", "step-00000030"}
    assert "step-00000020 is left out" in caplog.text


def test_one_that_is_gone_is_said(run: RunInfo, place: Path, caplog: pytest.LogCaptureFixture) -> None:
    with begin(copying(place), run) as harness:
        harness.emit("checkpoint.saved", checkpoint_saved(run=run, step=10))
    assert "is gone before it was uploaded" in caplog.text


def test_a_program_that_is_not_there_is_told_before_training(train: Callable[..., Run]) -> None:
    assert list(upload("true", "{path}").check()) == []
    table = '\n[[plugins]]\nuse = "plugins.upload.Upload"\ncommand = ["no-such-program", "{path}"]\n'
    with pytest.raises(ConfigError, match="Upload  there is no program no-such-program"):
        train(plugins=table)


def test_a_disk_that_takes_no_record_costs_no_upload(
    run: RunInfo, place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (run.folder / "uploads").touch()  # where its folder would be
    with begin(copying(place), run) as harness:
        harness.emit("checkpoint.saved", checkpoint(run, 10))
    assert names(place) == {"step-00000010"}
    assert "could not be written" in caplog.text


TABLE = """
[[plugins]]
use = "plugins.upload.Upload"
command = ["cp", "-r", "{{path}}", "{place}/{{run}}-{{name}}"]
what = ["checkpoints", "exports"]
"""


def test_a_real_run_is_uploaded_whole(train: Callable[..., Run], tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    run = train(
        "train.steps=4", "checkpoint.keep=1", "export.at_end=true", plugins=TABLE.format(place=tmp_path / "elsewhere")
    )
    assert {path.name for path in (tmp_path / "elsewhere").iterdir()} == {
        "test-step-00000002", "test-step-00000004", "test-test-step-000004"
    }  # fmt: skip
    copied = tmp_path / "elsewhere" / "test-step-00000004"
    original = run.folder / "checkpoints" / "step-00000004"
    assert {path.name: path.read_bytes() for path in copied.iterdir()} == {
        path.name: path.read_bytes() for path in original.iterdir()
    }


def test_an_upload_that_fails_is_no_failed_run(train: Callable[..., Run]) -> None:
    table = '\n[[plugins]]\nuse = "plugins.upload.Upload"\ncommand = ["false", "{path}"]\nretries = 0\n'
    failed = train("train.steps=4", plugins=table)
    assert failed.exit_code == 0
    assert len(list((failed.folder / "checkpoints").iterdir())) == 2
