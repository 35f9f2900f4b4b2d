"""News of the run by HTTP, sent from the background so that training never waits for a server."""

import asyncio
import json
import math
import os
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import closing
from http.client import HTTPConnection
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import Field, model_validator

from events import Plugin, PluginSettings, in_thread, on
from events.payloads import CheckpointSaved, ControlApplied, DataReady, MetricsReady
from events.plugin import Subscription

Signal = Literal["data.ready", "metrics.ready", "control.applied", "checkpoint.saved"]
SCHEMES = {"https": 443, "http": 80}
TRANSLATED = IPv6Network("64:ff9b::/96")
"""IPv6 addresses that stand for IPv4 ones (RFC 6052)."""


class Webhook(Plugin):
    """POST a JSON object for each chosen event; ``{"event": "checkpoint.saved", "run": "demo", "step": 500, ...}``.

    The last checkpoint's `reason` tells how the run ended. When the server is slow, a newer event takes the place of
    the last waiting one of its kind; after three failures a kind is no longer posted, unless `on_error = "warn"`.
    An address that lets whoever knows it post is a secret: keep it in a variable or a file. Proxies are not used.
    """

    lane_size = 4
    lane_full = "coalesce"

    class Settings(PluginSettings):
        url: str = Field("", description="where to post; https, and redirects are not followed")
        url_env: str = Field("", description="in place of url, the environment variable that holds it")
        url_file: Path | None = Field(None, description="in place of url, the file whose first line it is")
        allow_private: bool = Field(
            False, description="also http, and servers of your own network; by default public ones by https only"
        )
        events: tuple[Signal, ...] = Field(("checkpoint.saved",), min_length=1, description="which signals to post")
        every_steps: int = Field(100, ge=1, description="of metrics.ready, post one in each so many steps")
        timeout_seconds: float = Field(5.0, gt=0, description="longest time for a post, from its start to the answer")

        @model_validator(mode="after")
        def _names_one_address(self) -> Self:
            given = [name for name in ("url", "url_env", "url_file") if getattr(self, name)]
            if len(given) > 1:
                raise ValueError(f"{' and '.join(given)} are given; leave one of url, url_env and url_file")
            split_address(self.address, allow_private=self.allow_private)
            return self

        @property
        def address(self) -> str:
            """Raises ValueError for a variable or a file that is not there."""
            if self.url_env:
                if self.url_env not in os.environ:
                    raise ValueError(f"url_env: there is no environment variable {self.url_env}")
                return os.environ[self.url_env].strip()
            if self.url_file is None:
                return self.url
            try:
                return self.url_file.read_text(encoding="utf-8").partition("\n")[0].strip()
            except (OSError, UnicodeDecodeError) as error:
                raise ValueError(f"url_file: {self.url_file} cannot be read: {type(error).__name__}") from None

    def __init__(self, settings: PluginSettings | None = None, *, name: str = "") -> None:
        super().__init__(settings, name=name)
        self._posted_step = 0
        """Of the last metrics.ready that was posted."""

    def subscriptions(self) -> Iterator[Subscription]:
        """Only the signals that the settings choose."""
        chosen = self.settings.events
        yield from (one for one in super().subscriptions() if one.mark.signal in chosen)

    @on("data.ready")
    async def tell_data(self, event: DataReady) -> None:
        await self._post("data.ready", run=event.run.name, items=len(event.items), problems=list(event.problems))

    @on("metrics.ready")
    async def tell_metrics(self, event: MetricsReady) -> None:
        every = self.settings.every_steps
        if event.step // every == self._posted_step // every:
            return
        self._posted_step = event.step
        values = {name: value if math.isfinite(value) else None for name, value in event.values.items()}
        await self._post("metrics.ready", run=event.run.name, step=event.step, epoch=event.epoch, values=values)

    @on("control.applied")
    async def tell_control(self, event: ControlApplied) -> None:
        await self._post(
            "control.applied", step=event.step, kind=event.kind, key=event.key, value=str(event.value),
            reason=event.reason, asker=event.asker,
        )  # fmt: skip

    @on("checkpoint.saved")
    async def tell_checkpoint(self, event: CheckpointSaved) -> None:
        await self._post(
            "checkpoint.saved", run=event.run.name, step=event.step, reason=event.reason, path=str(event.path)
        )

    def state_dict(self) -> Mapping[str, Any]:
        return {"posted_step": self._posted_step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._posted_step = state["posted_step"]

    async def _post(self, event: str, **facts: Any) -> None:
        seconds, own = self.settings.timeout_seconds, self.settings.allow_private
        posted = in_thread(post_json, self.settings.address, {"event": event} | facts, seconds, allow_private=own)
        try:
            await asyncio.wait_for(posted, seconds)
        except TimeoutError:
            raise TimeoutError(f"the post of {event} timed out after {seconds:g} s") from None


def split_address(url: str, *, allow_private: bool) -> SplitResult:
    """Raises ValueError for what is no address to post to; the message does not repeat it, since it may be a secret."""
    try:
        parts = urlsplit(url)
        is_web = parts.scheme in SCHEMES and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_web = False
    if not is_web:
        raise ValueError("not a web address; it begins with https:// and a host")
    if parts.scheme != "https" and not allow_private:
        raise ValueError("http is not encrypted; use https, or set allow_private = true for a server of your own")
    if "@" in parts.netloc:
        raise ValueError("a user and password before the host are not sent; leave them out")
    return parts


def post_json(url: str, body: Mapping[str, Any], timeout_seconds: float, *, allow_private: bool = False) -> None:
    """Raises OSError for any answer but 2xx, also a redirect, and when there is none; HTTPException for gibberish.

    The host's name is resolved once, and the connection made to the very address that was looked at.
    """
    parts = split_address(url, allow_private=allow_private)
    host = str(parts.hostname)
    place = resolve(host, parts.port or SCHEMES[parts.scheme], allow_private=allow_private)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    with closing(_Connection(host, place, timeout_seconds, parts.scheme)) as connection:
        connection.request("POST", path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        with connection.getresponse() as answer:
            if not 200 <= answer.status < 300:
                raise OSError(f"{host} answered {answer.status} {answer.reason}")


def resolve(host: str, port: int, *, allow_private: bool) -> tuple[str, int]:
    """The address to connect to. Raises PermissionError for a host with an address that is not public, however written."""
    found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    for address in found:
        if not allow_private and not is_public(address):
            raise PermissionError(f"{host} is {address}, which is no public address; allow_private = true permits it")
    return found[0], port


def is_public(address: str) -> bool:
    """Whether it is of the internet at large: not this machine's, this network's, reserved, or one of those in disguise.

    >>> [is_public(one) for one in ("1.1.1.1", "127.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1", "64:ff9b::a00:1")]
    [True, False, False, False, False, False]
    """
    ip = ip_address(address.partition("%")[0])
    return ip.is_global and not ip.is_multicast and all(one.is_global for one in _embedded(ip))


def _embedded(ip: IPv4Address | IPv6Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses that packets to an IPv6 address may be sent on to."""
    if isinstance(ip, IPv6Address):
        yield from (one for one in (ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())) if one is not None)
        if ip in TRANSLATED:
            yield IPv4Address(int(ip) & 0xFFFFFFFF)


class _Connection(HTTPConnection):
    """To an address that was settled before, under the host's name."""

    def __init__(self, host: str, place: tuple[str, int], timeout: float, scheme: str) -> None:
        super().__init__(host, place[1], timeout=timeout)
        self.default_port = SCHEMES[scheme]
        self._place, self._seconds, self._is_secure = place, timeout, scheme == "https"

    def connect(self) -> None:
        self.sock = socket.create_connection(self._place, self._seconds)
        if self._is_secure:
            self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self.host)
