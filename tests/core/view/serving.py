"""A real server of a live view on a free port, asked by HTTP as a browser or anybody else would."""

import json
import threading
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from queue import Queue
from typing import Any

from core.view.address import Address
from core.view.serving import serve

TOKEN = "a token of this test"
SECONDS = 30.0
"""How long an answer may take on a machine that is busy."""


@dataclass(frozen=True)
class Served:
    """A server that goes on."""

    address: Address
    over: threading.Event
    """Set it, and the server ends."""

    @property
    def port(self) -> int:
        return int(self.address.url.rstrip("/").rpartition(":")[2])

    def ask(self, path: str, *, method: str = "GET", **headers: str) -> "Answer":
        """Headers are named with `_` in place of `-`."""
        with self.open(path, method=method, **headers) as response:
            return Answer(response.status, dict(response.getheaders()), response.read())

    @contextmanager
    def open(self, path: str, *, method: str = "GET", **headers: str) -> Generator[HTTPResponse, None, None]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        try:
            connection.putrequest(method, path, skip_host="Host" in headers)
            for name, value in headers.items():
                connection.putheader(name.replace("_", "-"), value)
            connection.endheaders()
            yield connection.getresponse()
        finally:
            connection.close()

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("/api/state").json()
        return found

    @contextmanager
    def listen(self, cursor: str = "", *, last_id: str = "") -> Generator[Iterator["Told"], None, None]:
        headers = {"Last_Event_ID": last_id} if last_id else {}
        with self.open(f"/api/events?cursor={cursor}", **headers) as response:
            assert response.getheader("content-type", "").startswith("text/event-stream")
            yield _events(response)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Told:
    """A server-sent event; a comment is of the kind "comment"."""

    kind: str
    id: str = ""
    data: Any = None


def _events(response: HTTPResponse) -> Iterator[Told]:
    fields: dict[str, str] = {}
    for raw in response:
        line = raw.decode().rstrip("\n")
        if line.startswith(":"):
            yield Told("comment")
        elif line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "event" in fields:
            yield Told(fields["event"], fields["id"], json.loads(fields["data"]))
            fields = {}


@contextmanager
def served(folder: Path, *, host: str = "127.0.0.1", port: int = 0) -> Generator[Served, None, None]:
    """Serve a folder until the block is left."""
    told: Queue[Address] = Queue()
    over = threading.Event()
    serving = threading.Thread(
        target=serve, args=(folder,), daemon=True,
        kwargs={"host": host, "port": port, "token": TOKEN, "tell": told.put, "wait": over.wait},
    )  # fmt: skip
    serving.start()
    try:
        yield Served(told.get(timeout=SECONDS), over)
    finally:
        over.set()
        serving.join(SECONDS)
        assert not serving.is_alive()
