"""Who may ask the server of a live view for what.

A page of another site must reach nothing: requests under a foreign name (DNS rebinding) or of a foreign origin are refused.
Buttons need the token. Reading is free for programs of this machine; served to others, it needs the token as well.
"""

import hmac
import socket
from collections.abc import Mapping
from hashlib import sha256
from http import HTTPStatus
from http.cookies import SimpleCookie
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN_HEADER = "x-signalbox-token"  # noqa: S105  # the name of the header
LOOPBACK = ("127.0.0.1", "localhost", "::1")
OPEN = ("/", "/page/")
"""Paths that hold nothing of a run: the page without its data."""
SAFETY: Mapping[str, str] = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


class Access:
    """The rules for a server on `host` whose buttons need `token`."""

    def __init__(self, host: str, token: str) -> None:
        """Raises ValueError for an empty token, which everybody would have."""
        if not token:
            raise ValueError("a live view has a token")
        self.is_local = is_loopback(host)
        self._names = {*LOOPBACK, host.lower()} | (set() if self.is_local else {socket.gethostname().lower()})
        self._token = token
        self.pass_value = hmac.new(token.encode(), b"reading", sha256).hexdigest()
        """Of the cookie with which a browser may read; nobody learns the token from it."""
        self.pass_name = f"signalbox-{sha256(self.pass_value.encode()).hexdigest()[:8]}"
        """Cookies of a host are those of all its ports."""

    def problem(self, scope: Scope) -> str:
        """Why a request is refused; empty when it is not."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_known(host):
            return f"the live view is not served under the name {host or '(none)'}"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return "requests of other pages are not answered"
        if scope["method"] not in ("GET", "HEAD"):
            return "" if self.has_token(headers) else "this needs the token; open the address that the run has printed"
        is_open = scope["path"] == OPEN[0] or scope["path"].startswith(OPEN[1])
        if self.is_local or is_open or self.has_token(headers) or self._has_pass(headers):
            return ""
        return "reading from another machine needs the token; open the address that the run has printed"

    def has_token(self, headers: Headers) -> bool:
        return hmac.compare_digest(headers.get(TOKEN_HEADER, "").encode(), self._token.encode())

    def _has_pass(self, headers: Headers) -> bool:
        given = SimpleCookie(headers.get("cookie", "")).get(self.pass_name)
        return given is not None and hmac.compare_digest(given.value.encode(), self.pass_value.encode())

    def _is_known(self, host: str) -> bool:
        """Whether a Host header is one of ours. An address in figures cannot be rebound to another."""
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            return False
        return name in self._names or (not self.is_local and _is_address(name))


class Guard:
    """Refuses what `Access` refuses, and has browsers refuse whatever a page of ours does not need."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # starting and ending; there are no web sockets
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SAFETY.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        problem = self._access.problem(scope)
        app = JSONResponse({"problem": problem}, HTTPStatus.FORBIDDEN) if problem else self._app
        await app(scope, receive, send_safely)


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine reach a server on it.

    >>> [is_loopback(host) for host in ("localhost", "127.0.0.1", "::1", "0.0.0.0", "192.168.1.2", "somewhere")]
    [True, True, True, False, False, False]
    """
    return host.lower() == "localhost" or (_is_address(host) and ip_address(host).is_loopback)


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
