"""`run.py check` finds in one go what a start of training would refuse of data, places, device and plugins."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import torch

from core.cache.store import Store
from core.checks.findings import Findings
from core.checks.places import look_at_disk, problem_with_writing
from core.run_folder.lock import locked
from tests.core.checking import checked
from tests.core.surveying import plugin
from tests.warm import run_py

WriteConfig = Callable[..., Path]
CHECKS = "tests.core.plugins_for_checks."


def test_what_is_in_order_has_a_line_each(write_config: WriteConfig) -> None:
    lines, problems = checked(write_config(), "validation.fraction=0.2")
    assert problems == []
    told = [line.split()[0] for line in lines if not line.startswith(" ")]
    assert told == ["model", "data", "optimizer", "previews", "processes", "run", "disk"]
    assert "training unet, text_encoder: 0." in lines[0]
    assert "million weights in unet" in lines[0]
    assert "6 pictures, 0 without a caption, 4 to validate with (held_out), 0 set aside" in lines[1]


def test_problems_of_every_kind_are_told_together(write_config: WriteConfig, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    _, problems = checked(
        write_config(plugin(CHECKS + "SaysOne") + plugin(CHECKS + "NoWeight")),
        f"data.root={tmp_path / 'empty'}", "train.optimizer=torch.optim.Adamm", "train.device=cuda",
        "preview.scheduler=DDIM", "train.parameters=[{match = 'nothing.*', lr = 1}]",
    )  # fmt: skip
    told = "\n".join(problems)
    for what in ("no program called banana", "holds no picture", "did you mean 'Adam'?", "did you mean 'DDIMScheduler'",
                 "nothing.*"):  # fmt: skip
        assert what in told, what
    assert ("torch sees no CUDA device" in told) != torch.cuda.is_available()
    assert len(problems) == len(set(problems))


def test_one_problem_is_told_once_however_many_looks_meet_it(write_config: WriteConfig, tmp_path: Path) -> None:
    _, problems = checked(write_config(), "model.train=['unett']")
    assert [problem for problem in problems if "unett" in problem] == problems
    assert len(problems) == 1


def test_a_check_leaves_no_trace_of_a_run_and_tells_nobody(write_config: WriteConfig, tmp_path: Path) -> None:
    told = tmp_path / "told"
    _, problems = checked(write_config(plugin(CHECKS + "TellData", file=str(told))))
    assert problems == []
    assert not told.exists()
    assert not (tmp_path / "runs").exists()


def test_plugins_that_leave_no_item_or_fail_on_a_sample_are_named(write_config: WriteConfig) -> None:
    _, problems = checked(write_config(plugin(CHECKS + "DropAll")))
    assert problems == ["no item is left after the data.items plugins"]
    _, problems = checked(write_config(plugin("FailOnOwls")))
    assert len(problems) == 1
    assert "plugin FailOnOwls failed in FailOnOwls.fail" in problems[0]
    assert problems[0].endswith("RuntimeError: an owl")


def test_the_command_looks_at_what_a_run_configure_handler_makes_of_the_config(write_config: WriteConfig) -> None:
    done = run_py("check", str(write_config(plugin("tests.core.plugins_for_tests.Reconfigure"))))
    assert done.returncode == 0, done.stderr
    assert "renamed is new" in done.stdout


def test_plugins_that_cannot_be_made_hide_nothing_else(write_config: WriteConfig, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    path = write_config(plugin("plugins.captions.Afix") + plugin("plugins.image_color.Gamma", low="much"))
    done = run_py(
        "check", str(path), "--set", f"data.root={tmp_path / 'empty'}", "--set", "train.optimizer=torch.optim.Adamm",
        "--set", "preview.scheduler=DDIM",
    )  # fmt: skip
    assert done.returncode == 2
    for what in ("did you mean 'Affix'?", "plugins[1].low", "holds no picture", "did you mean 'Adam'?",
                 "did you mean 'DDIMScheduler'"):  # fmt: skip
        assert what in done.stderr, what
    assert "5 problems" in done.stderr


# places


def test_a_run_that_cannot_be_written_is_refused(write_config: WriteConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    _, problems = checked(write_config(), f"run.dir={tmp_path / 'file'}")
    assert problems == [f"run.dir  {tmp_path / 'file'} is no folder; name another place"]
    assert problem_with_writing(tmp_path / "new" / "newer") == ""
    assert list(tmp_path.glob("new*")) == []


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a folder that nobody can write to")
def test_a_place_that_takes_no_file_is_told_with_the_reason() -> None:
    assert problem_with_writing(Path("/proc/runs")).startswith("/proc cannot be written (")


def test_a_run_goes_on_without_a_cache_that_cannot_be_written(write_config: WriteConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    lines, problems = checked(write_config(), f"cache.dir={tmp_path / 'file'}")
    assert problems == []
    assert any(line.startswith(f"cache     {tmp_path / 'file'} is no folder; training goes on") for line in lines)


def test_a_cache_that_another_process_keeps_is_told(write_config: WriteConfig, tmp_path: Path) -> None:
    store = Store(tmp_path / "cache" / "latents.sqlite")
    store.set_note("x", 1)
    store.close()
    path = write_config()
    assert checked(path, "cache.latents=true")[1] == []
    with closing(sqlite3.connect(tmp_path / "cache" / "latents.sqlite")) as other:
        other.execute("BEGIN EXCLUSIVE")
        _, problems = checked(path, "cache.latents=true")
        assert len(problems) == 1
        assert "latents.sqlite is being written by another process" in problems[0]
        assert checked(path, "cache.latents=false")[1] == []


def test_a_run_that_another_process_trains_is_told_and_its_owner_stays(
    write_config: WriteConfig, tmp_path: Path
) -> None:
    folder = tmp_path / "runs" / "test"
    folder.mkdir(parents=True)
    with locked(folder):
        owner = (folder / "run.owner.json").read_text()
        _, problems = checked(write_config())
        assert (folder / "run.owner.json").read_text() == owner
    assert len(problems) == 1
    assert "is being trained by process" in problems[0]
    assert checked(write_config())[1] == []


def test_a_checkpoint_that_would_not_fit_is_told_before_training(tmp_path: Path) -> None:
    found = Findings()
    look_at_disk(shutil.disk_usage(tmp_path).total + 1, tmp_path / "run", found)
    assert len(found.problems) == 1
    assert "a checkpoint of this run needs about" in found.problems[0]
    look_at_disk(1, tmp_path / "run", found)
    assert len(found.problems) == 1
    assert found.lines[0].startswith("disk      a checkpoint takes about 0.0 MB")
