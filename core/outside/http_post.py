"""A POST that goes where it was meant to and nowhere else: no redirect is followed, no proxy asked, no name looked up twice."""

import json
import math
import secrets
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

SCHEMES = {"https": 443, "http": 80}
TRANSLATED = IPv6Network("64:ff9b::/96")
"""IPv6 addresses that stand for IPv4 ones (RFC 6052)."""
TOO_MANY = 429


@dataclass(frozen=True, slots=True)
class Payload:
    """What is posted."""

    body: bytes
    content_type: str


class RateLimited(OSError):
    """The server has had too many posts and says for how long it wants none."""

    def __init__(self, host: str, seconds: float) -> None:
        super().__init__(f"{host} answered {TOO_MANY} and wants no post for {seconds:g} s")
        self.seconds = seconds


def json_payload(tree: Mapping[str, Any]) -> Payload:
    return Payload(json.dumps(tree).encode(), "application/json")


def multipart_payload(tree: Mapping[str, Any], file: Path, content_type: str) -> Payload:
    """A JSON object as `payload_json` and a file as `files[0]` (RFC 7578). Raises OSError for a file that cannot be read."""
    boundary = secrets.token_hex(16)
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="payload_json"\r\nContent-Type: application/json\r\n\r\n'
    )
    between = (
        f'\r\n--{boundary}\r\nContent-Disposition: form-data; name="files[0]"; filename="{file.name}"\r\n'
        f"Content-Type: {content_type}\r\n\r\n"
    )
    body = b"".join(
        (
            head.encode(),
            json.dumps(tree).encode(),
            between.encode(),
            file.read_bytes(),
            f"\r\n--{boundary}--\r\n".encode(),
        )
    )
    return Payload(body, f"multipart/form-data; boundary={boundary}")


def post(url: str, payload: Payload, timeout_seconds: float, *, allow_private: bool = False) -> None:
    """Raises OSError for any answer but 2xx, also a redirect, and when there is none; HTTPException for gibberish.

    RateLimited is the one that says when to try again. The host's name is resolved once, and the connection made to the
    very address that was looked at.
    """
    parts = split_address(url, allow_private=allow_private)
    host = str(parts.hostname)
    place = resolve(host, parts.port or SCHEMES[parts.scheme], allow_private=allow_private)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    with closing(_Connection(host, place, timeout_seconds, parts.scheme)) as connection:
        headers = {"Content-Type": payload.content_type, "User-Agent": "signalbox"}
        connection.request("POST", path, payload.body, headers)
        with connection.getresponse() as answer:
            if answer.status == TOO_MANY and (seconds := _seconds(answer.headers.get("Retry-After", ""))) is not None:
                raise RateLimited(host, seconds)
            if not 200 <= answer.status < 300:
                raise OSError(f"{host} answered {answer.status} {answer.reason}")


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


def _seconds(text: str) -> float | None:
    """Of a Retry-After header, which may also be a date; None then."""
    try:
        seconds = float(text)
    except ValueError:
        return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None


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
