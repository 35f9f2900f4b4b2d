"""A live view put on the network: a free port, an address with its token, and an orderly end."""

import asyncio
import errno
import logging
import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import uvicorn

from .access import Access
from .address import Address
from .feed import Feed
from .follow import Follower
from .server import app_of

TRIED_PORTS = 50
"""How many ports in a row are tried before any free one is taken."""
FAREWELL_SECONDS = 2
"""How long connections may take to end."""


def serve(
    folder: Path,
    *,
    host: str,
    port: int,
    token: str,
    tell: Callable[[Address], None],
    wait: Callable[[], object] | None = None,
) -> None:
    """Serve a run's folder until `wait` returns, in a thread of its own, or until interrupted; `tell` gets the address.

    Raises OSError for an address that cannot be served.
    """
    listening = listen_at(host, port)
    shown = socket.gethostname() if host in ("0.0.0.0", "::") else host  # noqa: S104  # asked for by the user
    tell(Address(f"http://{f'[{shown}]' if ':' in shown else shown}:{listening.getsockname()[1]}/", token))
    asyncio.run(_serve(folder, listening, Access(host, token), wait))


def listen_at(host: str, port: int) -> socket.socket:
    """A socket on this port or, where it is taken, on the next free one; 0 is any. Raises OSError."""
    family, *_, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    tried = range(port, min(port + TRIED_PORTS, 65536)) if port else ()
    for number in (*tried, 0):
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            if os.name == "posix":  # elsewhere it would take the port from whoever has it
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((place[0], number, *place[2:]))
            listening.listen(128)
        except OSError as error:
            listening.close()
            if error.errno != errno.EADDRINUSE or not number:
                raise
        else:
            return listening
    raise AssertionError("any free port was tried last")


async def _serve(folder: Path, listening: socket.socket, access: Access, wait: Callable[[], object] | None) -> None:
    follower = Follower(folder)
    feed = Feed(follower)
    server = uvicorn.Server(
        uvicorn.Config(
            app_of(follower, feed, access), lifespan="off", ws="none", access_log=False, server_header=False,
            log_config=None, proxy_headers=False, timeout_graceful_shutdown=FAREWELL_SECONDS,
        )
    )  # fmt: skip
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    ended, loop = asyncio.Event(), asyncio.get_running_loop()
    if wait is not None:
        threading.Thread(target=_tell_end, args=(wait, loop, ended), name="signalbox-view-end", daemon=True).start()
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    while not (ended.is_set() or server.should_exit or serving.done()):
        await asyncio.wait([serving], timeout=0.1)
    await feed.end()
    server.should_exit = True
    await serving


def _tell_end(wait: Callable[[], object], loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
    wait()
    with suppress(RuntimeError):  # it has ended by itself
        loop.call_soon_threadsafe(ended.set)
