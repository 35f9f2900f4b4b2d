"""A server that takes its time, in a process of its own: `python -m benchmarks.slow_server 0.02` prints its port."""

import json
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import sleep
from typing import Any
from urllib.request import urlopen

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True)
class SlowServer:
    """One that runs."""

    url: str

    def heard(self) -> dict[str, int]:
        """`posts` and the `step` of the newest."""
        with urlopen(self.url, timeout=10) as answer:
            heard: dict[str, int] = json.load(answer)
        return heard


@contextmanager
def slow_server(seconds: float) -> Generator[SlowServer, None, None]:
    """A server that answers a POST after so many seconds, until the block ends."""
    command = [sys.executable, "-m", "benchmarks.slow_server", str(seconds)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield SlowServer(f"http://127.0.0.1:{int(process.stdout.readline())}/")
        finally:
            process.terminate()


def main(seconds: float) -> None:
    """Serve until this process is ended."""
    heard = {"posts": 0, "step": 0}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            sleep(seconds)
            heard["posts"], heard["step"] = heard["posts"] + 1, max(heard["step"], body.get("step", 0))
            self._answer(b"")

        def do_GET(self) -> None:
            self._answer(json.dumps(heard).encode())

        def log_message(self, *arguments: Any) -> None:
            """Nobody reads it."""

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main(float(sys.argv[1]))
