"""Interactive asks of a run what keys and files say, and leaves no trace in the terminal."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from events import Plugin, on
from events.control import Control
from events.payloads import StepEnd
from events.testing import Harness, progress, run_close, run_info, run_start
from plugins.interactive import HELP, Interactive
from tests.small_runs import ROOT, Run
from tests.terminals import terminal

TABLE = '\n[[plugins]]\nuse = "plugins.interactive.Interactive"\n'


def begun(plugin: Plugin, folder: Path) -> tuple[Harness, Control]:
    harness, control = Harness(plugin), Control()
    harness.emit("run.start", run_start(run=run_info(folder), control=control))
    return harness, control


def asked(control: Control) -> list[tuple[str, str, str]]:
    taken = control.take("stop", "save", "preview", "evaluate", "export")
    return [(request.kind, request.reason, request.asker) for request in taken]


@pytest.fixture
def pressed(tmp_path: Path) -> tuple[Interactive, Control]:
    plugin = Interactive(name="keys")
    return plugin, begun(plugin, tmp_path)[1]


@pytest.mark.parametrize(
    ("key", "wish"), [("s", "save"), ("p", "preview"), ("v", "evaluate"), ("e", "export"), ("P", "preview")]
)
def test_a_key_is_a_wish(pressed: tuple[Interactive, Control], key: str, wish: str) -> None:
    pressed[0].press(key)
    assert asked(pressed[1]) == [(wish, "asked by a key", "keys")]


@pytest.mark.parametrize("key", ["x", " ", "\n", "1", "é"])
def test_any_other_key_is_none(
    pressed: tuple[Interactive, Control], capsys: pytest.CaptureFixture[str], key: str
) -> None:
    pressed[0].press(key)
    assert asked(pressed[1]) == []
    assert capsys.readouterr().err == ""


def test_h_lists_the_keys(pressed: tuple[Interactive, Control], capsys: pytest.CaptureFixture[str]) -> None:
    pressed[0].press("h")
    assert capsys.readouterr().err == f"{HELP}\n"


def test_q_stops_only_when_it_comes_twice_soon(
    pressed: tuple[Interactive, Control], monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin, control = pressed
    now = [100.0]
    monkeypatch.setattr("plugins.interactive.monotonic", lambda: now[0])
    for now[0] in (100.0, 105.1, 110.0):
        plugin.press("q")
        if now[0] < 110.0:
            assert asked(control) == []
    assert asked(control) == [("stop", "stopped by a key", "keys")]
    plugin.press("q")
    assert asked(control) == []


def test_a_file_is_a_wish(tmp_path: Path) -> None:
    harness, control = begun(Interactive(), tmp_path)
    (tmp_path / "control" / "preview").touch()
    (tmp_path / "control" / "stop").write_text("bedtime")
    harness.emit("progress", progress(run=run_info(tmp_path)))
    assert asked(control) == [("stop", "bedtime", "Interactive"), ("preview", "asked by a file", "Interactive")]
    harness.emit("progress", progress(run=run_info(tmp_path)))
    assert asked(control) == []


def test_a_file_that_an_earlier_session_did_not_take_up_is_forgotten(tmp_path: Path) -> None:
    (tmp_path / "control").mkdir()
    (tmp_path / "control" / "stop").touch()
    harness, control = begun(Interactive(), tmp_path)
    harness.emit("progress", progress(run=run_info(tmp_path)))
    assert asked(control) == []


def test_files_can_be_left_out(tmp_path: Path) -> None:
    harness, control = begun(Interactive(Interactive.Settings(files=False)), tmp_path)
    (tmp_path / "control").mkdir()
    (tmp_path / "control" / "stop").touch()
    harness.emit("progress", progress(run=run_info(tmp_path)))
    assert asked(control) == []


class AskAt(Plugin):
    """Leaves files as a person would, while the run goes on."""

    @on("step.end")
    def ask(self, event: StepEnd) -> None:
        if event.step == 2:
            for wish in ("preview", "save", "evaluate", "export"):
                (event.run.folder / "control" / wish).touch()
        if event.step == 5:
            (event.run.folder / "control" / "stop").touch()


def test_files_in_a_run_do_what_they_say(train: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.run.pace.SHOWN_SECONDS", 0.0)  # progress at each step
    run = train(
        "train.steps=9", "checkpoint.every_steps=0", "validation.fraction=0.3", "validation.every_steps=0",
        plugins=TABLE + '\n[[plugins]]\nuse = "tests.plugins.test_interactive.AskAt"\n',
    )  # fmt: skip
    assert (run.folder / "previews" / "step-000002" / "grid.png").is_file()
    assert {path.name for path in (run.folder / "checkpoints").iterdir()} == {"step-00000002", "step-00000005"}
    assert (run.folder / "exports" / "test-step-000002").is_dir()
    assert "evaluate: asked by a file (asked by Interactive)" in (run.folder / "log.jsonl").read_text()


def test_outside_a_terminal_nothing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    harness, _ = begun(Interactive(), tmp_path)
    harness.emit("run.close", run_close(run=run_info(tmp_path)))
    assert capsys.readouterr().err == ""


def test_keys_in_a_real_run(write_config: Callable[..., Path]) -> None:
    """Previews by p, the end by q and q, beside a progress bar; then the terminal is as it was."""
    path = write_config(TABLE + '\n[[plugins]]\nuse = "plugins.progress_bar.ProgressBar"\n')
    command = (sys.executable, str(ROOT / "run.py"), "train", str(path))
    with terminal(*command, "--set", "train.steps=100000", "--set", "checkpoint.every_steps=0", size=(30, 150)) as one:
        one.wait_for("keys: s save")
        one.wait_for_mode(is_ours=True)
        one.wait_for("step ")
        one.type("p")
        one.wait_for("previews after this step")
        one.wait_for("grid.png")
        one.type("q")
        one.wait_for("press q once more")
        one.type("q")
        one.wait_for("the run stops after this step")
        assert one.end() == 0
        assert "stopped by a key at step" in one.text
        assert one.is_cooked
