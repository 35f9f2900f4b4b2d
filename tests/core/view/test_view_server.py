"""The server of a live view answers whom it should and nobody else, and tells each change once."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing
from itertools import islice
from pathlib import Path

import pytest

from core.errors import ConfigError
from core.run_folder.control_files import take
from core.run_folder.lock import locked
from core.view.access import Access
from core.view.command import view_run
from core.view.feed import KEPT, Feed
from core.view.follow import Follower
from tests.core.view.folders import FOX, OWL, log_line, make_run, preview, report, session
from tests.core.view.serving import TOKEN, Served, Told, served
from tests.small_runs import ROOT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", status="running")


@pytest.fixture
def server(folder: Path) -> Iterator[Served]:
    with served(folder) as server:
        yield server


# who is answered


OURS = ("127.0.0.1", "localhost:1234", "LOCALHOST", "[::1]:80")
FOREIGN = ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "10.0.0.1", "", "[", "a@b")
PICTURE = "/previews/10/00-owl.png"


def test_it_answers_under_the_names_of_this_machine(server: Served) -> None:
    assert [server.ask("/api/state", Host=host).status for host in OURS] == [200] * len(OURS)


def test_foreign_names_are_refused(server: Served) -> None:
    for path in ("/", "/page/view.js", "/api/state", "/api/events", PICTURE):
        assert [server.ask(path, Host=host).status for host in FOREIGN] == [403] * len(FOREIGN), path


def test_a_foreign_origin_is_refused_even_with_the_token(server: Served, folder: Path) -> None:
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1", f"http://localhost:{server.port}"):
        assert server.ask("/api/state", Origin=origin).status == 403
        asked = server.ask("/api/ask/stop", method="POST", Origin=origin, X_Signalbox_Token=TOKEN)
        assert asked.status == 403
    assert take(folder) == []


def test_its_own_origin_is_answered(server: Served) -> None:
    assert server.ask("/api/state", Origin=f"http://127.0.0.1:{server.port}").status == 200


def test_a_request_needs_the_token(server: Served, folder: Path) -> None:
    with locked(folder):
        for headers in ({}, {"X_Signalbox_Token": ""}, {"X_Signalbox_Token": "wrong"}, {"X_Signalbox_Token": "ä"}):
            assert server.ask("/api/ask/save", method="POST", **headers).status == 403
        assert take(folder) == []
        assert server.ask("/api/ask/save", method="POST", X_Signalbox_Token=TOKEN).status == 202
        assert take(folder) == [("save", "asked in the live view")]


def test_a_run_that_is_over_is_asked_for_nothing(server: Served, folder: Path) -> None:
    session(folder, "complete")
    answer = server.ask("/api/ask/stop", method="POST", X_Signalbox_Token=TOKEN)
    assert (answer.status, answer.json()) == (409, {"problem": "the run is not running: complete"})
    assert take(folder) == []


def test_only_what_a_run_can_do_is_asked_for(server: Served) -> None:
    assert server.ask("/api/ask/delete", method="POST", X_Signalbox_Token=TOKEN).status == 404
    assert server.ask("/api/ask/stop", X_Signalbox_Token=TOKEN).status == 405


def test_served_to_others_it_needs_the_token_for_reading_too(folder: Path) -> None:
    with served(folder, host="0.0.0.0") as server:
        assert server.ask("/", Host="192.168.1.2").status == 200  # the page, which knows nothing of the run
        assert server.ask("/api/state").status == 403
        assert server.ask("/previews/10/00-owl.png").status == 403
        assert server.ask("/api/state", X_Signalbox_Token=TOKEN).status == 200
        assert server.ask("/api/state", X_Signalbox_Token=TOKEN, Host="evil.example").status == 403
        entered = server.ask("/api/enter", method="POST", X_Signalbox_Token=TOKEN)
        cookie = entered.headers["set-cookie"].partition(";")[0]
        assert TOKEN not in cookie
        assert "HttpOnly" in entered.headers["set-cookie"]
        assert server.ask("/previews/10/00-owl.png", Cookie=cookie).status == 200
        assert server.ask("/api/ask/stop", method="POST", Cookie=cookie).status == 403


def test_without_a_token_nobody_is_let_in() -> None:
    with pytest.raises(ValueError, match="has a token"):
        Access("127.0.0.1", "")


# what is served


def test_the_page_loads_nothing_from_elsewhere_and_runs_no_script_within_it(server: Served) -> None:
    answer = server.ask("/")
    page = answer.body.decode()
    assert "default-src 'none'; script-src 'self'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert "://" not in page
    assert "style=" not in page
    assert page.count("<script") == page.count("<script src=") + page.count('<script type="module" src=')


def test_every_file_that_the_page_names_is_there(server: Served) -> None:
    page = server.ask("/").body.decode()
    named = [part.partition('"')[0] for mark in ('href="', 'src="') for part in page.split(mark)[1:]]
    assert len(named) == 5
    for name in named:
        assert server.ask(name).status == 200, name


NOT_SERVED = (
    "/previews/10/grid.png", "/previews/11/00-owl.png", "/previews/10/round.json", "/previews/10/..",
    "/previews/10/../../config.toml", "/previews/10/..%2f..%2fconfig.toml", "/previews/10/%2e%2e%2fround.json",
    "/previews/-1/00-owl.png", "/previews/x/00-owl.png", "/page/../server.py", "/page/..%2fserver.py",
    "/page/%2e%2e/server.py", "/page//etc/passwd", "/config.toml", "/page/", "/api",
)  # fmt: skip


def test_a_picture_of_a_round_is_served(server: Served) -> None:
    server.state()
    answer = server.ask(PICTURE)
    assert (answer.status, answer.headers["content-type"], answer.body) == (200, "image/png", OWL.read_bytes())


def test_nothing_else_is(server: Served, folder: Path) -> None:
    (folder / "previews" / "step-000010" / "grid.png").write_bytes(b"x")
    server.state()
    assert {path: server.ask(path).status for path in NOT_SERVED} == dict.fromkeys(NOT_SERVED, 404)


def test_a_round_that_lists_what_lies_elsewhere_opens_no_way_out(server: Served, folder: Path) -> None:
    home = folder / "previews" / "step-000010"
    (home / "link.png").symlink_to(folder / "config.toml")
    record = (home / "round.json").read_text()
    for file in ("../../config.toml", "link.png", "..", "."):
        (home / "round.json").write_text(record.replace("00-owl.png", file))
        assert server.state()["rounds"][0]["pictures"][0]["file"] == file
        assert server.ask(f"/previews/10/{file.replace('/', '%2f')}").status == 404, file


def test_a_stretch_of_a_curve_is_served_closely(server: Served) -> None:
    server.state()
    assert server.ask("/api/curve?name=loss&from=3&to=6").json() == {
        "steps": [4, 6],
        "values": [1 / 4, 1 / 6],
        "whole": True,
    }
    assert server.ask("/api/curve?name=loss").json()["steps"][-1] == 20
    assert server.ask("/api/curve?name=nothing").status == 404
    assert server.ask("/api/curve?name=loss&from=x").status == 400


# what is told


def changes(events: Iterator[Told]) -> Iterator[Told]:
    return (event for event in events if event.kind != "comment")


def test_each_addition_is_told_once(server: Served, folder: Path) -> None:
    with server.listen(server.state()["cursor"]) as events:
        report(folder, 22, loss=0.5)
        assert next(changes(events)).data["points"] == {"loss": [[22, 0.5]]}
        log_line(folder, "news")
        assert [line["text"] for line in next(changes(events)).data["log"]] == ["news"]
        preview(folder, 30, FOX)
        assert [one["step"] for one in next(changes(events)).data["rounds"]] == [30]
        session(folder, "failed")
        assert next(changes(events)).data["session"]["status"] == "failed"


def test_who_comes_back_misses_nothing_and_hears_nothing_twice(server: Served, folder: Path) -> None:
    state = server.state()
    with server.listen(state["cursor"]) as events:
        report(folder, 22, loss=0.5)
        first = next(changes(events))
    for step in (24, 26):  # while nobody listens; another who looks meanwhile takes nothing away
        report(folder, step, loss=0.5)
        server.state()
    with server.listen(state["cursor"], last_id=first.id) as events:
        report(folder, 28, loss=0.5)
        heard = [event.data["points"]["loss"] for event in islice(changes(events), 3)]
    assert heard == [[[24, 0.5]], [[26, 0.5]], [[28, 0.5]]]


def test_a_state_and_what_follows_it_have_everything_once(server: Served, folder: Path) -> None:
    report(folder, 22, loss=0.5)
    state = server.state()
    with server.listen(state["cursor"]) as events:
        report(folder, 24, loss=0.5)
        told = next(changes(events)).data["points"]["loss"]
    assert (state["curves"]["loss"]["steps"][-1], told) == (22, [[24, 0.5]])


def test_who_comes_with_an_unknown_cursor_reads_the_state_anew(server: Served) -> None:
    for cursor in ("", "of-another-server-3", "x"):
        with server.listen(cursor) as events:
            assert next(events).kind == "reset"


def test_who_is_too_far_behind_reads_the_state_anew(folder: Path) -> None:
    async def fall_behind() -> str:
        feed = Feed(Follower(folder))
        cursor = (await feed.state())["cursor"]
        for step in range(KEPT + 1):
            report(folder, 100 + step, loss=0.5)
            await feed.state()
        async with aclosing(feed.listen(cursor)) as texts:
            return [text async for text in _first(texts, 2)][1]

    assert "event: reset" in asyncio.run(fall_behind())


def test_what_a_run_takes_back_has_listeners_read_the_state_anew(server: Served, folder: Path) -> None:
    with server.listen(server.state()["cursor"]) as events:
        (folder / "shorter").write_text('{"step": 2, "values": {"loss": 1.0}}\n')
        os.replace(folder / "shorter", folder / "metrics.jsonl")
        assert next(changes(events)).kind == "reset"
    assert server.state()["curves"]["loss"]["steps"] == [2]


def test_a_silence_is_broken_by_a_comment_and_nobody_looks_when_nobody_listens(folder: Path) -> None:
    async def listen() -> list[str]:
        feed = Feed(Follower(folder), beat_seconds=0.01)
        cursor = (await feed.state())["cursor"]
        assert not feed.is_looking
        async with aclosing(feed.listen(cursor)) as texts:
            heard = [text async for text in _first(texts, 2)]
            assert feed.is_looking
        while feed.is_looking:
            await asyncio.sleep(0.01)
        return heard

    assert asyncio.run(asyncio.wait_for(listen(), 30))[1].startswith(":")


async def _first(texts, count):  # type: ignore[no-untyped-def]  # an async iterator, and the same
    heard = 0
    async for text in texts:
        yield text
        heard += 1
        if heard == count:
            return


def test_a_server_that_ends_says_so_after_the_last_change(server: Served, folder: Path) -> None:
    with server.listen(server.state()["cursor"]) as events:
        report(folder, 22, loss=0.5)
        next(changes(events))  # nobody looks for a while
        session(folder, "complete")
        server.over.set()
        told = list(changes(events))
    assert [event.kind for event in told] == ["change", "bye"]
    assert told[0].data["session"]["status"] == "complete"


# where it is


def test_a_port_that_is_taken_gives_way_to_the_next(folder: Path) -> None:
    with served(folder) as first, served(folder, port=first.port) as second:
        assert first.port < second.port <= first.port + 50
        assert second.ask("/api/state").status == 200


def test_an_address_of_another_machine_is_an_error_in_words(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1:8765 cannot be served"):
        view_run(folder, host="192.0.2.1", port=8765, tell=print)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no folder of a run"):
        view_run(tmp_path, host="127.0.0.1", port=0, tell=print)


def test_without_the_packages_it_says_how_to_install_them(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(ConfigError, match=r"uvicorn (is|are) not installed; pip install .*uvicorn"):
        view_run(folder, host="127.0.0.1", port=0, tell=print)


def test_the_server_loads_neither_torch_nor_numpy() -> None:
    told = (
        "import sys, core.view.serving, core.view.command; print({'torch', 'numpy', 'PIL', 'pandas'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", told], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
