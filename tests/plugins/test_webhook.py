"""Webhook posts the chosen events as JSON, from the background, and no server can hold up or end a run."""

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from events import Plugin, on
from events.payloads import CheckpointSaved
from events.testing import (
    Harness,
    checkpoint_saved,
    control_applied,
    data_ready,
    item,
    metrics_ready,
    run_info,
)
from plugins.webhook import Webhook, post_json, resolve

ALL = ("data.ready", "metrics.ready", "control.applied", "checkpoint.saved")


class Server(ThreadingHTTPServer):
    """Notes what it is sent. It answers with `status`, once `may_answer` is set."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[tuple[str, dict[str, Any]]] = []
        self.status = 204
        self.has_been_asked = threading.Event()
        self.may_answer = threading.Event()
        self.may_answer.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook"

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [body for _, body in self.received]


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        assert self.headers["Content-Type"] == "application/json"
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.received.append((self.path, body))
        self.server.has_been_asked.set()
        self.server.may_answer.wait()
        self.send_response(self.server.status)
        if self.server.status == 302:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.may_answer.set()
    server.shutdown()
    thread.join()
    server.server_close()


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


def test_every_event_can_be_chosen(server: Server) -> None:
    with Harness(webhook(server, events=ALL)) as harness:
        harness.emit("data.ready", data_ready(items=(item(),), problems=("a.png: broken",)))
        harness.emit("metrics.ready", metrics_ready(step=100, values={"loss": 0.5}))
        harness.emit("control.applied", control_applied(kind="set", key="train.accumulate", value=4))
        harness.emit("checkpoint.saved", checkpoint_saved())
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


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/", "http:///path", "hook", ""])
def test_what_is_no_web_address_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="not a web address"):
        Webhook.Settings(url=url)


def test_an_unknown_event_is_refused() -> None:
    with pytest.raises(ValidationError):
        Webhook.Settings(url="https://host/", events=("run.end",))


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


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "0.0.0.0", "::1", "169.254.169.254", "2130706433", "0x7f000001", "::ffff:127.0.0.1"]
)
def test_a_host_that_is_not_public_is_refused_however_it_is_written(host: str) -> None:
    with pytest.raises(PermissionError, match="which is no public address"):
        resolve(host, 443, allow_private=False)


def test_a_public_server_is_asked_for_under_its_name_at_the_address_that_was_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reached: list[Any] = []

    class Context:
        def wrap_socket(self, sock: object, server_hostname: str) -> None:
            reached.append(server_hostname)
            raise ConnectionRefusedError("as far as it goes")

    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(2, 1, 6, "", ("93.184.216.34", 443))])
    monkeypatch.setattr(socket, "create_connection", lambda place, seconds: reached.append(place))
    monkeypatch.setattr(ssl, "create_default_context", Context)
    with pytest.raises(ConnectionRefusedError):
        post_json("https://hooks.example/x", {}, 1.0)
    assert reached == [("93.184.216.34", 443), "hooks.example"]
