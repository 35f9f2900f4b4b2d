"""A run's folder is followed by reading what was added, and what a run takes back is noticed."""

import json
import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from core.run_folder.lock import locked
from core.view.curves import Curve, thinned
from core.view.follow import Follower
from core.view.log_lines import NEWEST, LogLines
from core.view.now import Now, write_now
from core.view.tail import Tail
from tests.core.view.folders import FOX, append, log_line, make_run, owned, preview, report, session


def test_each_line_of_a_file_is_given_once_and_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    tail = Tail(path)
    assert tail.read() == ([], False)
    with path.open("ab", buffering=0) as file:
        file.write(b"one\ntw")
        assert tail.read() == ([b"one"], False)
        assert tail.read() == ([], False)
        file.write(b"o\nthree\n")
        assert tail.read() == ([b"two", b"three"], False)


def test_a_file_that_was_replaced_cut_or_written_over_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"one\ntwo\n")
    tail = Tail(path)
    tail.read()
    (tmp_path / "other").write_bytes(b"one\ntwo\nthree\n")
    os.replace(tmp_path / "other", path)
    assert tail.read() == ([b"one", b"two", b"three"], True)
    os.truncate(path, 4)
    assert tail.read() == ([b"one"], True)
    with path.open("r+b") as file:
        file.write(b"ONE\nTWO\n")
    assert tail.read() == ([b"ONE", b"TWO"], True)
    path.unlink()
    assert tail.read() == ([], True)
    assert tail.read() == ([], False)


def test_the_first_look_has_everything_and_the_next_only_what_came(tmp_path: Path) -> None:
    follower = Follower(make_run(tmp_path))
    first = follower.look()
    assert first.parts.keys() >= {"status", "session", "plan", "data", "points", "log", "rounds"}
    assert follower.look().parts == {}
    report(tmp_path, 22, loss=0.25)
    append(tmp_path / "metrics.jsonl", {"step": 22, "values": {"validation/held_out": 0.5, "bad": None}})
    log_line(tmp_path, "more")
    change = follower.look()
    assert change.parts.keys() == {"points", "log"}
    assert change.parts["points"] == {"loss": [(22, 0.25)], "validation/held_out": [(22, 0.5)]}
    assert [line["text"] for line in change.parts["log"]] == ["more"]
    assert not change.is_reset
    assert follower.everything()["curves"]["validation/held_out"] == {"steps": [22], "values": [0.5], "whole": True}


def test_a_run_that_goes_back_is_read_anew(tmp_path: Path) -> None:
    follower = Follower(make_run(tmp_path))
    follower.look()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "shorter").write_text("".join(lines[:3]))
    os.replace(tmp_path / "shorter", tmp_path / "metrics.jsonl")
    assert follower.look().is_reset
    assert follower.everything()["curves"]["loss"]["steps"] == [2, 4, 6]


def test_a_step_that_is_told_again_is_no_addition(tmp_path: Path) -> None:
    follower = Follower(make_run(tmp_path))
    follower.look()
    report(tmp_path, 20, loss=9.0)
    assert follower.look().is_reset
    assert follower.everything()["curves"]["loss"]["values"][-1] == 9.0


def test_a_round_that_comes_is_rendered_again_or_goes_is_noticed(tmp_path: Path) -> None:
    follower = Follower(make_run(tmp_path))
    follower.look()
    preview(tmp_path, 30, FOX)
    (came,) = follower.look().parts["rounds"]
    assert (came["step"], came["pictures"][0]["text"]) == (30, "owl")
    preview(tmp_path, 30, FOX, text="fox")
    (again,) = follower.look().parts["rounds"]
    assert again["pictures"][0]["text"] == "fox"
    assert again["version"] != came["version"]
    (tmp_path / "previews" / "step-000030" / "round.json").unlink()
    assert follower.look().is_reset
    assert [one["step"] for one in follower.everything()["rounds"]] == [10, 20]


def test_the_state_is_that_of_the_lock_and_of_the_record(tmp_path: Path) -> None:
    follower = Follower(make_run(tmp_path, status="running"))
    follower.look()
    assert follower.state == "interrupted"
    with locked(tmp_path):
        assert follower.state == "running"
        session(tmp_path, "stopped")
        follower.look()
        assert follower.state == "running"  # another process has begun to go on with it
        owned(tmp_path, 1)
        assert follower.state == "stopped"  # its own process is still closing
    assert follower.state == "stopped"


def test_requests_that_wait_are_told(tmp_path: Path) -> None:
    follower = Follower(make_run(tmp_path))
    follower.look()
    (tmp_path / "control").mkdir()
    (tmp_path / "control" / "save").touch()
    assert follower.look().parts["status"]["waiting"] == ["save"]


def test_lines_that_cannot_be_read_are_passed_over(tmp_path: Path) -> None:
    make_run(tmp_path)
    (tmp_path / "metrics.jsonl").write_text(
        '[]\n{"step": "x", "values": {}}\n{"step": 2, "values": {"loss": 1e999}}\nno\n'
    )
    (tmp_path / "log.jsonl").write_text("[]\nno\n")
    (tmp_path / "record" / "plan.json").write_text("{")
    follower = Follower(tmp_path)
    follower.look()
    everything = follower.everything()
    assert (everything["curves"], everything["log"], everything["plan"]) == ({}, [], None)


def test_a_folder_with_nothing_in_it_is_followed_too(tmp_path: Path) -> None:
    follower = Follower(tmp_path)
    follower.look()
    assert follower.everything()["status"] == {"state": "unknown", "step": 0, "steps": 0, "waiting": []}


def test_of_a_long_log_the_newest_lines_and_older_warnings_are_kept() -> None:
    lines = LogLines()
    for number in range(NEWEST + 10):
        level = "warning" if number == 3 else "info"
        lines.add(json.dumps({"event": f"plugin Ema: {number}", "level": level}).encode())
    kept = lines.kept()
    assert len(kept) == NEWEST + 1
    assert (kept[0]["level"], kept[0]["number"], kept[1]["number"]) == ("warning", 4, 11)


def test_warnings_and_errors_are_counted_by_the_plugin_that_they_name() -> None:
    lines = LogLines()
    for text, level in [("plugin Ema is slow: x", "warning"), ("training waits in the lane of plugin A.b", "error"),
                        ("plugin Ema: fine", "info"), ("no disk", "error")]:  # fmt: skip
        lines.add(json.dumps({"event": text, "level": level}).encode())
    assert lines.counts() == {"Ema": {"warning": 1}, "A.b": {"error": 1}}


@given(st.lists(st.floats(-9, 9), max_size=300), st.integers(4, 50))
def test_few_points_have_the_ends_and_extremes_of_many(values: list[float], most: int) -> None:
    places = thinned(values, most)
    assert len(places) <= most
    assert places == sorted(set(places))
    if values:
        kept = [values[place] for place in places]
        assert (places[0], places[-1]) == (0, len(values) - 1)
        assert (min(kept), max(kept)) == (min(values), max(values))


def test_a_stretch_of_a_curve_has_all_its_points() -> None:
    curve = Curve()
    for step in range(10_000):
        curve.add(step, float(step % 7))
    assert not curve.all(most=100)["whole"]
    assert curve.between(500, 504, most=100) == {
        "steps": [500, 501, 502, 503, 504],
        "values": [3, 4, 5, 6, 0],
        "whole": True,
    }


def test_how_far_a_run_is_replaces_what_was_there(tmp_path: Path) -> None:
    for step in (3, 4):
        write_now(
            tmp_path, Now(pid=1, time="t", step=step, steps=9, images_per_second=1.5, eta_seconds=2, data_fraction=0)
        )
    assert [path.name for path in (tmp_path / "record").iterdir()] == ["now.json"]
    follower = Follower(tmp_path)
    follower.look()
    assert follower.everything()["now"]["step"] == 4
