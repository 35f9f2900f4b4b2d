"""A post reaches a public server, once and whole, or says why it did not; nobody sends it elsewhere."""

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.outside.http_post import RateLimited, json_payload, multipart_payload, post, resolve, split_address
from tests.http_server import Server, http_server

NEWS = json_payload({"event": "run.end"})


@pytest.fixture
def server() -> Iterator[Server]:
    with http_server() as server:
        yield server


def test_it_arrives(server: Server) -> None:
    post(f"{server.url}?wait=true", NEWS, 10.0, allow_private=True)
    assert server.received == [("/hook?wait=true", {"event": "run.end"})]


def test_a_file_travels_beside_the_facts(server: Server, tmp_path: Path) -> None:
    picture = bytes(range(256)) * 10 + b"\r\n--\r\n"
    (tmp_path / "grid.png").write_bytes(picture)
    post(
        server.url,
        multipart_payload({"content": "schön"}, tmp_path / "grid.png", "image/png"),
        10.0,
        allow_private=True,
    )
    assert server.bodies == [{"content": "schön"}]
    assert server.files == [("grid.png", picture)]


@pytest.mark.parametrize("status", [400, 404, 500, 301, 302, 307])
def test_any_answer_that_is_no_success_is_an_error_and_no_redirect_is_followed(server: Server, status: int) -> None:
    server.status = status
    with pytest.raises(OSError, match=rf"127\.0\.0\.1 answered {status}"):
        post(server.url, NEWS, 10.0, allow_private=True)
    assert len(server.received) == 1


@pytest.mark.parametrize(("said", "seconds"), [("1", 1.0), (" 0.65", 0.65), ("-3", 0.0)])
def test_a_server_that_had_too_many_says_when_to_come_again(server: Server, said: str, seconds: float) -> None:
    server.first_answers = [(429, {"Retry-After": said})]
    with pytest.raises(RateLimited, match="wants no post for") as caught:
        post(server.url, NEWS, 10.0, allow_private=True)
    assert caught.value.seconds == seconds


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, {"Retry-After": "inf"}])
def test_one_that_does_not_say_when_is_an_error_like_others(server: Server, headers: dict[str, str]) -> None:
    server.first_answers = [(429, headers)]
    with pytest.raises(OSError, match="answered 429") as caught:
        post(server.url, NEWS, 10.0, allow_private=True)
    assert not isinstance(caught.value, RateLimited)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/", "http:///path", "hook", "", "https://host:x/"])
def test_what_is_no_web_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="not a web address"):
        split_address(url, allow_private=True)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "0.0.0.0", "::1", "169.254.169.254", "2130706433", "0x7f000001", "::ffff:127.0.0.1"]
)
def test_a_host_that_is_not_public_is_refused_however_it_is_written(host: str) -> None:
    with pytest.raises(PermissionError, match="which is no public address"):
        resolve(host, 443, allow_private=False)


def test_nothing_reaches_a_server_of_ones_own_unless_it_may(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_connection", lambda *_: pytest.fail("it was connected to"))
    with pytest.raises(PermissionError):
        post(server.url.replace("http:", "https:"), NEWS, 10.0)


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
        post("https://hooks.example/x", NEWS, 1.0)
    assert reached == [("93.184.216.34", 443), "hooks.example"]
