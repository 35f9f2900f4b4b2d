"""A request can be left to a run as a file, by anybody who may write to its folder."""

from pathlib import Path

from core.run_folder.control_files import FOLDER, ask, forget, hand_over, take
from events.control import Control


def test_a_request_is_taken_once_with_its_reason(tmp_path: Path) -> None:
    ask(tmp_path, "preview", reason="look at it")
    assert take(tmp_path) == [("preview", "look at it")]
    assert take(tmp_path) == []


def test_an_empty_file_made_by_hand_is_a_request(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "stop").touch()
    control = Control()
    hand_over(tmp_path, control, asker="me")
    (request,) = control.take("stop")
    assert (request.reason, request.asker) == ("asked by a file", "me")


def test_other_files_stay_and_a_reason_is_short_and_printable(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "notes.txt").write_text("mine")
    (tmp_path / FOLDER / "save").write_bytes(b"a\x1b[2J\n\xff" + b"x" * 1000)
    ((wish, reason),) = take(tmp_path)
    assert wish == "save"
    assert reason.isprintable()
    assert len(reason) <= 200
    assert (tmp_path / FOLDER / "notes.txt").read_text() == "mine"


def test_what_nobody_took_up_does_not_reach_the_next_session(tmp_path: Path) -> None:
    ask(tmp_path, "stop")
    forget(tmp_path)
    assert take(tmp_path) == []


def test_a_run_without_such_a_folder_has_no_requests(tmp_path: Path) -> None:
    assert take(tmp_path / "nowhere") == []
