"""`run.py runs` lists every run of a folder, the newest first, and says how to go on with those that are not complete."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import run as command_line
from core.errors import ConfigError
from core.history.going_on import how_to_go_on
from core.history.listing import as_json, going_on, list_runs, listing_sections
from core.history.places import find_folder, runs_folder
from core.history.reading import read_run
from core.pages.terminal import print_report
from core.run_folder.folder import find_run
from tests.core.history.written_runs import falling, write_run
from tests.small_runs import Run
from tests.warm import run_py

STOPPED = {"status": "stopped", "reason": "enough", "step": 60}


def printed(folder: Path) -> str:
    file = StringIO()
    listed = list_runs(folder)
    print_report(listing_sections(listed, folder), file)
    return file.getvalue() + "\n".join(going_on(listed))


def test_the_newest_is_first_with_what_there_is_to_know(tmp_path: Path) -> None:
    write_run(tmp_path / "old", session={"began": "2026-07-01T10:00:00+00:00"}, curves={"loss": falling()})
    write_run(tmp_path / "new", session=STOPPED, curves={"validation/faces": {0: 1.0, 50: 0.5}})
    lines = printed(tmp_path).splitlines()
    first, second = (line for line in lines if line.startswith(("  new ", "  old ")))
    assert first.split()[:10] == ["new", "stopped", "60", "of", "100", "0.5", "faces", "at", "50", first.split()[9]]
    assert "10 min" in first
    assert second.split()[:8] == ["old", "complete", "100", "of", "100", "0.09091", "at", "100"]


def test_a_stopped_run_is_gone_on_with_by_what_was_typed(tmp_path: Path) -> None:
    write_run(tmp_path / "mine", session=STOPPED)
    text = printed(tmp_path)
    assert "mine (stopped at step 60: enough)\n    python run.py train 'my config.toml'" in text


def test_from_elsewhere_the_folder_comes_first(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "mine", session=STOPPED | {"directory": "/some where"})
    assert how_to_go_on(read_run(folder)) == "cd '/some where' && python run.py train 'my config.toml'"


def test_a_complete_or_running_one_needs_nothing(tmp_path: Path) -> None:
    write_run(tmp_path / "whole", session={})
    assert list(going_on(list_runs(tmp_path))) == []


def test_a_run_of_an_older_version_goes_on_with_its_own_config(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "mine", curves={"loss": falling()})
    assert how_to_go_on(read_run(folder)).startswith(
        f"python run.py train {folder}/config.toml  (what was typed is not known"
    )


def test_what_is_said_to_go_on_with_a_run_goes_on_with_that_run(
    write_config: Callable[..., Path], tmp_path: Path
) -> None:
    """Also of several runs of one name, and where it lies in another folder than its config says."""
    runs = tmp_path / "runs"
    config = write_config()
    for name in ("test", "test-2", "test-3", "alone"):
        own = '[run]\nname = "test"\n' + f"dir = {json.dumps(str(runs))}\n"
        write_run(runs / name, session=STOPPED | {"command": ("python", "run.py", "train", str(config))}, config=own)
    write_run(
        tmp_path / "moved" / "test",
        session=STOPPED | {"command": ("python", "run.py", "train", str(config))},
        config=own,
    )
    for folder in (runs / "test-2", runs / "test-3", runs / "alone", tmp_path / "moved" / "test"):
        words = how_to_go_on(read_run(folder)).split()
        overrides = [words[place + 1] for place, word in enumerate(words) if word == "--set"]
        assert find_run(command_line.load(config, overrides), fresh=False).path == folder
    assert "its name means test-3 by now" in how_to_go_on(read_run(runs / "test"))


def test_a_real_run_that_was_stopped_and_given_another_name_goes_on(train: Callable[..., Run]) -> None:
    stopped = train("train.steps=2").folder
    train("train.steps=2", fresh=True)
    renamed = stopped.rename(stopped.with_name("other"))
    assert how_to_go_on(read_run(renamed)).endswith(
        "--set run.name=other  (what was typed is not known; this is the config that it had)"
    )
    assert train("run.name=other", "train.steps=4").folder == renamed
    assert read_run(renamed).checkpoints == (2, 4)


def test_one_that_cannot_be_read_is_listed_with_the_reason(tmp_path: Path) -> None:
    write_run(tmp_path / "whole", session={})
    (tmp_path / "killed" / "checkpoints").mkdir(parents=True)
    (tmp_path / "pictures").mkdir()
    text = printed(tmp_path)
    assert "killed  not readable" in text
    assert "holds no config.toml" in text
    assert "pictures" not in text


def test_nor_does_a_folder_of_another_user_end_it() -> None:
    with TemporaryDirectory() as name:
        runs = Path(name)
        runs.chmod(0o755)
        write_run(runs / "theirs", session={}).chmod(0)
        with as_somebody_else():
            assert "theirs  not readable" in printed(runs)
        (runs / "theirs").chmod(0o700)


@contextmanager
def as_somebody_else() -> Iterator[None]:
    """Root reads every folder, so tests that run as root are nobody meanwhile."""
    was_root = os.geteuid() == 0
    if was_root:
        os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        if was_root:
            os.setresuid(0, 0, 0)


def test_a_broken_record_does_not_end_it(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "mine", session={}, config="[train\nsteps = [1]")
    (folder / "record" / "session.json").write_text("{")
    assert "mine  unknown  0 " in printed(tmp_path)


def test_in_a_pipe_nothing_is_cut_coloured_or_broken_over_lines(tmp_path: Path) -> None:
    name = "a-name-of-sixty-four-signs-" + "x" * 37
    write_run(tmp_path / name, session=STOPPED | {"reason": "r" * 300}, curves={"loss": falling()})
    done = run_py("runs", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert any(
        name in line and "60 of 100" in line and line.rstrip().endswith("kB") for line in done.stdout.splitlines()
    )
    assert "r" * 300 in done.stdout
    assert "\x1b" not in done.stdout


def test_an_ordinary_list_fits_into_a_hundred_columns(tmp_path: Path) -> None:
    write_run(tmp_path / "portraits-12", session=STOPPED, curves={"validation/held_out": {99_000: 0.123456}})
    table = printed(tmp_path).split("portraits-12 (stopped")[0]
    assert max(map(len, table.splitlines())) <= 100


def test_scripts_get_objects(tmp_path: Path) -> None:
    write_run(tmp_path / "mine", session=STOPPED, curves={"loss": falling()})
    (tmp_path / "killed" / "checkpoints").mkdir(parents=True)
    by_name = {one["name"]: one for one in json.loads(as_json(list_runs(tmp_path)))}
    assert by_name["killed"]["state"] == "not readable"
    mine = by_name["mine"]
    assert (mine["state"], mine["step"], mine["steps"], mine["seconds"]) == ("stopped", 60, 100, 600.0)
    assert mine["best"] == {"metric": "loss", "step": 100, "value": falling()[100]}
    assert mine["command"] == ["python", "run.py", "train", "my config.toml"]
    assert mine["goes_on_with"] == "python run.py train 'my config.toml'"


def test_an_empty_folder_says_so_and_a_missing_one_is_refused(tmp_path: Path) -> None:
    assert "There is no run in" in printed(tmp_path)
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        list_runs(tmp_path / "nowhere")


def test_runs_are_looked_for_where_the_config_puts_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert runs_folder() == Path("runs")
    (tmp_path / "config.toml").write_text('[run]\ndir = "results"\n')
    assert runs_folder() == Path("results")
    (tmp_path / "config.toml").write_text("[run\n")
    assert runs_folder() == Path("runs")


def test_a_run_is_found_by_its_folder_and_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "runs" / "portraits", session={})
    (tmp_path / "portraits").mkdir()  # of something else
    assert find_folder("portraits") == Path("runs/portraits")
    assert find_folder("runs/portraits") == Path("runs/portraits")
    with pytest.raises(ConfigError, match="did you mean 'portraits'"):
        find_folder("portrait")
    with pytest.raises(ConfigError, match="there are portraits"):
        find_folder("zzz")
