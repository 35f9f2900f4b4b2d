"""One trainer a run, and a mark of how far it had come."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import ConfigError
from core.run_folder.lock import locked
from core.run_folder.step_mark import StepMark, marked_step
from tests.small_runs import ROOT, Run

HOLD = "import sys, pathlib\nfrom core.run_folder.lock import locked\nwith locked(pathlib.Path(sys.argv[1])):\n    print('held', flush=True)\n    sys.stdin.read()\n"


def test_the_second_is_refused_with_the_name_of_the_first_and_a_kill_frees_it(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(ConfigError, match=f"process {holder.pid} on ") as caught, locked(tmp_path):
        pass
    assert caught.value.exit_code == 2
    holder.kill()
    holder.communicate()
    with locked(tmp_path):
        assert f'"pid": {os.getpid()}' in (tmp_path / "run.owner.json").read_text()


def test_a_run_that_another_process_has_just_trained_is_left_alone(
    train: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    import core.run.session

    first = train("train.steps=2")
    taken = core.run.session.locked

    def locked_after_another_step(folder: Path) -> object:
        monkeypatch.setattr(core.run.session, "locked", taken)
        train("train.steps=3")
        return taken(folder)

    monkeypatch.setattr(core.run.session, "locked", locked_after_another_step)
    with pytest.raises(ConfigError, match="another process has just trained"):
        train("train.steps=4")
    assert first.folder.is_dir()


def test_the_mark_says_how_far_a_run_had_come(tmp_path: Path) -> None:
    assert marked_step(tmp_path) == 0
    mark = StepMark(tmp_path)
    for step in (1, 12345, 7):
        mark.note(step)
        assert marked_step(tmp_path) == step
    mark.close()
    mark.note(9)
    assert marked_step(tmp_path) == 7
    (tmp_path / "position").write_text("?")
    assert marked_step(tmp_path) == 0


def test_a_mark_that_cannot_be_made_is_done_without(tmp_path: Path) -> None:
    mark = StepMark(tmp_path / "not there")
    mark.note(3)
    mark.close()
    assert list(tmp_path.iterdir()) == []
    assert marked_step(tmp_path / "not there") == 0
