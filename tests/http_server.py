"""A real server on this machine that notes what is posted to it and answers as the test says."""

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from email import message_from_bytes
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server(ThreadingHTTPServer):
    """Answers with `status`, once `may_answer` is set; before that with each of `first_answers`, one a post."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[tuple[str, dict[str, Any]]] = []
        self.files: list[tuple[str, bytes]] = []
        """Name and content of what was attached."""
        self.status = 204
        self.first_answers: list[tuple[int, dict[str, str]]] = []
        """Status and headers."""
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
        kind, body = self.headers["Content-Type"], self.rfile.read(int(self.headers["Content-Length"]))
        if kind.startswith("multipart/form-data"):
            tree, attached = message_from_bytes(
                b"Content-Type: %b\r\n\r\n%b" % (kind.encode(), body), policy=HTTP
            ).iter_parts()
            assert tree.get_param("name", header="content-disposition") == "payload_json"
            assert attached.get_param("name", header="content-disposition") == "files[0]"
            self.server.files.append((attached.get_filename(), attached.get_payload(decode=True)))
            body = tree.get_payload(decode=True)
        else:
            assert kind == "application/json"
        self.server.received.append((self.path, json.loads(body)))
        self.server.has_been_asked.set()
        self.server.may_answer.wait()
        status, headers = self.server.first_answers.pop(0) if self.server.first_answers else (self.server.status, {})
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/elsewhere")
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST

    def log_message(self, *_: Any) -> None: ...


@contextmanager
def http_server() -> Generator[Server, None, None]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.may_answer.set()
        server.shutdown()
        thread.join()
        server.server_close()
