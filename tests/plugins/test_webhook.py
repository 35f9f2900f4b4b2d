"""Webhook posts the chosen events as JSON, from the background, and no server can hold up or end a run."""

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic import ValidationError

from events import Plugin, on
from events.errors import PluginError
from events.payloads import CheckpointSaved
from events.testing import (
    Harness,
    checkpoint_saved,
    control_applied,
    data_ready,
    item,
    metrics_ready,
    preview_end,
    prompt,
    run_end,
    run_error,
    run_info,
    run_start,
    validation_end,
)
from plugins.webhook import MOST_FILE_BYTES, Webhook
from tests.http_server import Server, http_server
from tests.small_runs import Run

ALL = (
    "run.start", "data.ready", "metrics.ready", "control.applied", "validation.end", "preview.end", "checkpoint.saved",
    "run.error", "run.end",
)  # fmt: skip


@pytest.fixture
def server() -> Iterator[Server]:
    with http_server() as server:
        yield server


def webhook(server: Server | str, **settings: Any) -> Webhook:
    settings = {"timeout_seconds": 30, "allow_private": True} | settings
    return Webhook(Webhook.Settings(url=server if isinstance(server, str) else server.url, **settings))


def test_a_checkpoint_is_posted(server: Server) -> None:
    run = run_info("runs/demo", name="demo")
    with Harness(webhook(server)) as harness:
        harness.emit("checkpoint.saved", checkpoint_saved(run=run, step=500, reason="complete"))
        harness.drain()
    path = str(run.folder / "checkpoints" / "step-00000500")
    sent = {"event": "checkpoint.saved", "run": "demo", "step": 500, "reason": "complete", "path": path}
    assert server.received == [("/hook", sent)]


def test_only_chosen_events_are_subscribed(server: Server) -> None:
    bus = Harness(webhook(server, events=("metrics.ready",))).bus
    assert [signal.name for signal in bus.signals if signal.handlers] == ["metrics.ready"]


def every_event(folder: Path) -> Iterator[tuple[str, Any]]:
    """As they come in a run of this folder."""
    run = run_info(folder, name="demo")
    yield "run.start", run_start(run=run)
    yield "data.ready", data_ready(run=run, items=(item(),), problems=("a.png: broken",))
    yield "metrics.ready", metrics_ready(run=run, step=100, values={"loss": 0.5})
    yield "control.applied", control_applied(kind="set", key="train.accumulate", value=4)
    yield "validation.end", validation_end(run=run)
    yield "preview.end", previews(folder)
    yield "checkpoint.saved", checkpoint_saved(run=run)
    yield "run.error", run_error(run=run)
    yield "run.end", run_end(run=run)


def previews(folder: Path, *, side: int = 32) -> Any:
    """A round with its grid."""
    event = preview_end(
        run=run_info(folder, name="demo"), prompts=(prompt("a red heart"),), paths=(folder / "00-a-red-heart.png",)
    )
    event.folder.mkdir(parents=True)
    Image.effect_noise((side, side), 100).convert("RGB").save(event.folder / "grid.png")
    return event


@pytest.mark.parametrize("form", ["json", "discord"])
def test_every_event_has_a_form(server: Server, tmp_path: Path, form: str) -> None:
    with Harness(webhook(server, events=ALL, form=form)) as harness:
        for event in every_event(tmp_path):
            harness.emit(*event)
            harness.drain()
    assert len(server.bodies) == len(ALL)
    if form == "discord":
        assert [body["embeds"][0]["title"] for body in server.bodies] == list(ALL)


def test_every_event_can_be_chosen(server: Server, tmp_path: Path) -> None:
    with Harness(webhook(server, events=ALL)) as harness:
        for event in every_event(tmp_path):
            harness.emit(*event)
            harness.drain()
    assert [body["event"] for body in server.bodies] == list(ALL)


def test_metrics_are_posted_once_in_each_so_many_steps(server: Server) -> None:
    with Harness(webhook(server, events=("metrics.ready",), every_steps=100)) as harness:
        for step in range(30, 500, 30):
            harness.emit("metrics.ready", metrics_ready(step=step))
            harness.drain()
    assert [body["step"] for body in server.bodies] == [120, 210, 300, 420]


def test_a_resumed_run_goes_on_counting(server: Server) -> None:
    first, second = (webhook(server, events=("metrics.ready",)) for _ in range(2))
    with Harness(first) as harness:
        harness.emit("metrics.ready", metrics_ready(step=100))
        harness.drain()
    second.load_state_dict(first.state_dict())
    with Harness(second) as harness:
        harness.emit("metrics.ready", metrics_ready(step=110))
        harness.drain()
    assert [body["step"] for body in server.bodies] == [100]


def test_what_is_not_finite_is_null(server: Server) -> None:
    with Harness(webhook(server, events=("metrics.ready",))) as harness:
        harness.emit("metrics.ready", metrics_ready(step=100, values={"loss": float("nan")}))
        harness.drain()
    assert server.bodies[0]["values"] == {"loss": None}


def test_a_server_that_does_not_answer_holds_up_nobody_and_its_lane_is_bounded(server: Server) -> None:
    server.may_answer.clear()
    with Harness(webhook(server, events=ALL, every_steps=1)) as harness:
        harness.emit("checkpoint.saved", checkpoint_saved(step=1))
        server.has_been_asked.wait()
        for step in range(2, 100):  # none of these waits, or the test would never end
            harness.emit("metrics.ready", metrics_ready(step=step))
        (lane,) = harness.bus.lanes
        assert lane.dropped == 98 - Webhook.lane_size
        server.may_answer.set()
        harness.drain()
    assert len(server.received) == 1 + Webhook.lane_size
    assert server.bodies[-1]["step"] == 99


def test_a_server_that_does_not_answer_holds_up_no_other_plugin(server: Server) -> None:
    class Other(Plugin):
        heard = threading.Event()

        @on("checkpoint.saved")
        async def hear(self, event: CheckpointSaved) -> None:
            self.heard.set()

    server.may_answer.clear()
    with Harness(webhook(server), Other()) as harness:
        harness.emit("checkpoint.saved", checkpoint_saved())
        server.has_been_asked.wait()
        assert Other.heard.wait(timeout=10)
        server.may_answer.set()


def test_a_flood_of_metrics_does_not_push_out_other_news(server: Server) -> None:
    server.may_answer.clear()
    with Harness(webhook(server, events=ALL, every_steps=1)) as harness:
        harness.emit("checkpoint.saved", checkpoint_saved(step=1))
        server.has_been_asked.wait()
        harness.emit("checkpoint.saved", checkpoint_saved(step=2))
        for step in range(2, 100):
            harness.emit("metrics.ready", metrics_ready(step=step))
        server.may_answer.set()
        harness.drain()
    assert [body["step"] for body in server.bodies if body["event"] == "checkpoint.saved"] == [1, 2]


def test_an_error_status_is_an_error(server: Server) -> None:
    server.status = 500
    with Harness(webhook(server)) as harness:
        harness.emit("checkpoint.saved", checkpoint_saved())
        with pytest.raises(OSError, match=r"127\.0\.0\.1 answered 500"):
            harness.drain()


def test_a_redirect_is_an_error_and_not_followed(server: Server) -> None:
    server.status = 302
    with Harness(webhook(server)) as harness:
        harness.emit("checkpoint.saved", checkpoint_saved())
        with pytest.raises(OSError, match="answered 302"):
            harness.drain()
    assert [path for path, _ in server.received] == ["/hook"]


def test_a_server_that_is_not_there_is_an_error() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with Harness(webhook(f"http://127.0.0.1:{port}/")) as harness:
        harness.emit("checkpoint.saved", checkpoint_saved())
        with pytest.raises(OSError, match="refused"):
            harness.drain()


def test_an_answer_that_does_not_come_in_time_is_an_error(server: Server) -> None:
    server.may_answer.clear()
    with Harness(webhook(server, timeout_seconds=0.05)) as harness:
        harness.emit("checkpoint.saved", checkpoint_saved())
        with pytest.raises(OSError, match="timed out"):
            harness.drain()


def test_after_three_failures_it_is_no_longer_tried_and_the_run_goes_on(server: Server) -> None:
    server.status = 500
    with Harness(webhook(server)) as harness:
        for step in range(1, 6):
            harness.emit("checkpoint.saved", checkpoint_saved(step=step))
            harness.bus.lanes.drain()
            harness.bus.surface_async_failures()
    assert [body["step"] for body in server.bodies] == [1, 2, 3]


@pytest.mark.parametrize("url", ["file:///etc/passwd", "hook", ""])
def test_what_is_no_web_address_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="not a web address"):
        Webhook.Settings(url=url)


def test_an_unknown_event_is_refused() -> None:
    with pytest.raises(ValidationError):
        Webhook.Settings(url="https://host/", events=("run.finish",))


@pytest.mark.parametrize("url", ["http://host/", "http://127.0.0.1:9/"])
def test_only_a_server_of_ones_own_is_posted_to_without_encryption(url: str) -> None:
    with pytest.raises(ValidationError, match="http is not encrypted"):
        Webhook.Settings(url=url)
    assert Webhook.Settings(url=url, allow_private=True).address == url


def test_a_user_before_the_host_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValidationError, match="leave them out") as caught:
        Webhook.Settings(url="https://me:hunter2@host/")
    assert "hunter2" not in str(caught.value.errors(include_input=False))


def test_the_address_comes_from_a_variable_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_HOOK", " https://host/one\n")
    (tmp_path / "hook").write_text("https://host/two\nmore")
    assert Webhook.Settings(url_env="MY_HOOK").address == "https://host/one"
    assert Webhook.Settings(url_file=tmp_path / "hook").address == "https://host/two"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"url": "https://host/", "url_env": "PATH"}, "leave one of url, url_env and url_file"),
        ({"url_env": "NO_SUCH_VARIABLE"}, "there is no environment variable NO_SUCH_VARIABLE"),
        ({"url_file": "no/such/file"}, "cannot be read: FileNotFoundError"),
        ({}, "not a web address"),
    ],
)
def test_one_address_is_named_and_is_there(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Webhook.Settings(**settings)


def test_a_grid_is_attached_where_discord_shows_it(server: Server, tmp_path: Path) -> None:
    with Harness(webhook(server, events=("preview.end",), form="discord")) as harness:
        harness.emit("preview.end", event := previews(tmp_path))
        harness.drain()
    assert server.files == [("grid.png", (event.folder / "grid.png").read_bytes())]
    assert server.bodies[0]["embeds"][0]["image"] == {"url": "attachment://grid.png"}
    assert server.bodies[0]["content"] == "`demo` has rendered previews at step 10"


def test_a_grid_that_is_too_large_is_left_out_of_the_message(server: Server, tmp_path: Path) -> None:
    with Harness(webhook(server, events=("preview.end",), form="discord")) as harness:
        event = previews(tmp_path)
        with (event.folder / "grid.png").open("ab") as grid:
            grid.truncate(MOST_FILE_BYTES + 1)
        harness.emit("preview.end", event)
        harness.drain()
    assert server.files == []
    assert "image" not in server.bodies[0]["embeds"][0]


@pytest.mark.parametrize(("prompts", "paths"), [(1, 0), (2, 1), (0, 0)])
def test_a_round_that_failed_or_was_empty_is_no_news(server: Server, tmp_path: Path, prompts: int, paths: int) -> None:
    with Harness(webhook(server, events=("preview.end",))) as harness:
        event = preview_end(run=run_info(tmp_path), prompts=(prompt(),) * prompts, paths=(tmp_path / "a.png",) * paths)
        harness.emit("preview.end", event)
        harness.drain()
    assert server.received == []


def test_the_news_of_one_webhook_is_not_posted_by_another(server: Server) -> None:
    settings = webhook(server, events=("run.end",)).settings
    with Harness(Webhook(settings, name="one"), Webhook(settings, name="two")) as harness:
        harness.emit("run.end", run_end())
        harness.drain()
    assert len(server.received) == 2


def test_an_error_is_posted_without_the_secrets_of_the_config(server: Server) -> None:
    secret = {"plugins": [{"api_key": "very-secret-word"}]}
    with Harness(webhook(server, events=("run.error",))) as harness:
        harness.emit("run.start", run_start(config=secret))
        harness.emit("run.error", run_error(ValueError("very-secret-word is refused")))
        harness.drain()
    assert [body["error"] for body in server.bodies] == ["ValueError: [redacted] is refused"]


def test_what_is_told_last_is_posted_before_the_end(server: Server) -> None:
    with Harness(webhook(server, events=("run.end",))) as harness:
        harness.emit("run.end", run_end(reason="complete"))
    assert [body["reason"] for body in server.bodies] == ["complete"]


def test_a_pause_that_the_server_asks_for_is_kept(server: Server) -> None:
    server.first_answers = [(429, {"Retry-After": "0.05"}), (429, {"Retry-After": "0.05"})]
    with Harness(webhook(server)) as harness:
        harness.emit("checkpoint.saved", checkpoint_saved(step=1))
        harness.drain()
    assert [body["step"] for body in server.bodies] == [1, 1, 1]


def test_a_pause_that_is_longer_than_a_post_may_take_is_not_waited_for_nor_broken(server: Server) -> None:
    server.first_answers = [(429, {"Retry-After": "3600"})]
    with Harness(webhook(server, timeout_seconds=5)) as harness:
        for step in (1, 2):
            harness.emit("checkpoint.saved", checkpoint_saved(step=step))
            with pytest.raises(OSError, match="the server wants none for another 3600 s"):
                harness.drain(limit_seconds=4)
    assert [body["step"] for body in server.bodies] == [1]


RUN = """
[[plugins]]
use = "plugins.webhook.Webhook"
url = "{url}"
allow_private = true
events = ["run.start", "preview.end", "run.error", "run.end"]
form = "{form}"
"""


def test_a_run_tells_that_it_is_over(server: Server, train: Callable[..., Run]) -> None:
    train("train.steps=2", "preview.at_end=true", plugins=RUN.format(url=server.url, form="discord"))
    said = [body["content"] for body in server.bodies]
    assert said == ["`test` begins", "`test` has rendered previews at step 2", "`test` is over at step 2"]
    assert [name for name, _ in server.files] == ["grid.png"]


def test_a_run_that_fails_tells_why(server: Server, train: Callable[..., Run]) -> None:
    failing = '\n[[plugins]]\nuse = "tests.core.plugins_for_tests.Failing"\n'
    with pytest.raises(PluginError):
        train("train.steps=4", plugins=failing + RUN.format(url=server.url, form="json"))
    assert [body["event"] for body in server.bodies] == ["run.start", "run.error"]
    assert "PluginError" in server.bodies[-1]["error"]
