"""The only code that opens addresses which users name: media by URL, and callbacks; and those of
an identity provider.

Live streams have code of their own for it, by the same rules: `moderation.live`.

A name is resolved once, every address it has must be public (or allowed by the operator), and
the connection goes to an address that was checked: a second answer of the name server cannot
redirect it. Redirects are followed by hand and checked alike. Proxies of the environment are
not used, since a proxy would resolve the name again.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urljoin

from moderation import reach
from moderation.errors import FetchError
from moderation.reach import Resolver, forbidden, is_public, system_resolver

__all__ = [
    "Answered",
    "Fetched",
    "Poured",
    "ask",
    "check_url",
    "fetch",
    "is_public",
    "post",
    "pour",
]

MAX_REDIRECTS = 3
USER_AGENT = "moderation"

_CHUNK = 64 * 1024
_REDIRECTS = (301, 302, 303, 307, 308)


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a URL gave. `url` is the last one, after redirects."""

    data: bytes
    content_type: str | None
    url: str


@dataclass(frozen=True, slots=True)
class Poured:
    """The same of an answer whose bytes went elsewhere."""

    content_type: str | None
    url: str


@dataclass(frozen=True, slots=True)
class Answered:
    """What a POST was answered with."""

    status: int
    data: bytes


@dataclass(frozen=True, slots=True)
class _Target:
    """A URL that may be opened, with the addresses that were checked."""

    scheme: str
    host: str
    port: int
    path: str
    addresses: tuple[str, ...]


def check_url(url: str, allow: Sequence[str], *, resolve: Resolver = system_resolver) -> None:
    """Raise FetchError (fetch_forbidden, fetch_failed) where `fetch` would not connect.

    allow: host names, IP addresses and nets (CIDR) that may be reached although they are not
    public.
    """
    _check(url, allow, resolve, time.monotonic() + 10)


def fetch(
    url: str,
    *,
    allow: Sequence[str],
    timeout_s: float,
    max_bytes: int,
    resolve: Resolver = system_resolver,
    tls: ssl.SSLContext | None = None,
) -> Fetched:
    """GET a URL: at most `max_bytes`, in at most `timeout_s` for everything together.

    Follows up to three redirects. Raises FetchError: fetch_forbidden (an address or scheme
    that may not be opened), fetch_too_large, fetch_timeout, fetch_failed (all else, also any
    status but 200 and a compressed body).
    """
    data = bytearray()
    told = pour(
        url,
        data.extend,
        allow=allow,
        timeout_s=timeout_s,
        max_bytes=max_bytes,
        resolve=resolve,
        tls=tls,
    )
    return Fetched(bytes(data), told.content_type, told.url)


def pour(
    url: str,
    write: Callable[[bytes], object],
    *,
    allow: Sequence[str],
    timeout_s: float,
    max_bytes: int,
    resolve: Resolver = system_resolver,
    tls: ssl.SSLContext | None = None,
) -> Poured:
    """As `fetch`, but hands the bytes to `write` while they come; after an error, some of them
    have been. Errors of `write` that are no OSError or ValueError pass through."""
    deadline = time.monotonic() + timeout_s
    for _ in range(MAX_REDIRECTS + 1):
        target = _check(url, allow, resolve, deadline)
        connection = _PinnedConnection(target, deadline, tls)
        try:
            headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
            response = connection.ask("GET", None, headers)
            if response.status in _REDIRECTS:
                location = response.getheader("Location")
                if not location:
                    raise FetchError(f"{target.host} redirected to nowhere")
                url = urljoin(url, location)
                continue
            if response.status != 200:
                raise FetchError(f"{target.host} answered with status {response.status}")
            _read(response, write, max_bytes)
            return Poured(response.getheader("Content-Type"), url)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _failure(target, error) from error
        finally:
            connection.shut()
    raise FetchError(f"more than {MAX_REDIRECTS} redirects")


def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    allow: Sequence[str],
    timeout_s: float,
    resolve: Resolver = system_resolver,
    tls: ssl.SSLContext | None = None,
) -> int:
    """POST a body and return the HTTP status, whatever it is; the answer's body is not read.

    Redirects are not followed. Raises FetchError as `fetch` does.
    """
    return ask(
        url, body, headers, allow=allow, timeout_s=timeout_s, max_bytes=0, resolve=resolve, tls=tls
    ).status


def ask(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    allow: Sequence[str],
    timeout_s: float,
    max_bytes: int,
    resolve: Resolver = system_resolver,
    tls: ssl.SSLContext | None = None,
) -> Answered:
    """As `post`, with what was answered, of at most `max_bytes`; 0: it is not read."""
    deadline = time.monotonic() + timeout_s
    target = _check(url, allow, resolve, deadline)
    connection = _PinnedConnection(target, deadline, tls)
    try:
        response = connection.ask("POST", body, headers)
        data = bytearray()
        if max_bytes:
            _read(response, data.extend, max_bytes)
        return Answered(response.status, bytes(data))
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _failure(target, error) from error
    finally:
        connection.shut()


def _check(url: str, allow: Sequence[str], resolve: Resolver, deadline: float) -> _Target:
    scheme, host, port, path = _parse(url)
    addresses = reach.checked(host, port, allow, deadline=deadline, resolve=resolve)
    return _Target(scheme, host, port, path, addresses)


def _parse(url: str) -> tuple[str, str, int, str]:
    """Scheme, host (lower case, ASCII), port, path with query. Raises FetchError."""
    parts = reach.split(url)
    if parts.scheme not in ("http", "https"):
        raise forbidden("only http and https URLs may be opened")
    if "@" in parts.netloc:
        raise forbidden("a URL with a user name or password may not be opened")
    host, port = reach.host_and_port(parts)
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    if parts.query:
        path += "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~-._?[]")
    return parts.scheme, host, port or (443 if parts.scheme == "https" else 80), path


class _PinnedConnection(http.client.HTTPConnection):
    """HTTP to one of the checked addresses, under the URL's own name."""

    def __init__(self, target: _Target, deadline: float, tls: ssl.SSLContext | None) -> None:
        super().__init__(target.host, target.port)
        self._target = target
        self._deadline = deadline
        self._tls: ssl.SSLContext | None = None
        self._open: socket.socket | None = None
        if target.scheme == "https":
            self._tls = tls or ssl.create_default_context()
            self.default_port = 443  # so that the Host header leaves it out

    def ask(
        self, method: str, body: bytes | None, headers: Mapping[str, str]
    ) -> http.client.HTTPResponse:
        """Send the request and read the answer's head."""
        own = {"User-Agent": USER_AGENT, "Connection": "close"}
        self.request(method, self._target.path, body, own | dict(headers))
        return self.getresponse()

    def connect(self) -> None:
        problem: OSError = OSError("no address")
        addresses = self._target.addresses
        for index, address in enumerate(addresses):
            # A dead address may not use up the time of those after it.
            share = _left(self._deadline) / (len(addresses) - index)
            try:
                plain = socket.create_connection((address, self._target.port), timeout=share)
            except OSError as error:
                problem = error
                continue
            self._open = self._secure(plain)
            self._open.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sock: Any = _DeadlineSocket(self._open, self._deadline)
            return
        raise problem

    def shut(self) -> None:
        """Close for good, the answer too. (`close` is called while the answer is unread.)"""
        self.close()
        if self._open is not None:
            self._open.close()

    def _secure(self, plain: socket.socket) -> socket.socket:
        if self._tls is None:
            return plain
        try:
            plain.settimeout(_left(self._deadline))
            return self._tls.wrap_socket(plain, server_hostname=self._target.host)
        except BaseException:
            plain.close()
            raise


class _DeadlineSocket:
    """The part of a socket that http.client uses, with one deadline for everything."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline

    def sendall(self, data: bytes) -> None:
        self._sock.settimeout(_left(self._deadline))
        self._sock.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self._sock, self._deadline), _CHUNK)

    def close(self) -> None:
        """Nothing: `_PinnedConnection.shut` closes the socket when the answer was read."""


class _Reader(io.RawIOBase):
    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(_left(self._deadline))
        return self._sock.recv_into(buffer)


def _read(
    response: http.client.HTTPResponse, write: Callable[[bytes], object], max_bytes: int
) -> None:
    if (response.getheader("Content-Encoding") or "identity").strip().lower() != "identity":
        raise FetchError("the answer is compressed, though that was not asked for")
    if response.length is not None and response.length > max_bytes:
        raise _too_large(max_bytes)
    seen = 0
    while part := response.read(_CHUNK):
        seen += len(part)
        if seen > max_bytes:
            raise _too_large(max_bytes)
        write(part)
    if response.length:  # what was announced and did not come
        raise FetchError("the answer ended early")


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _too_large(max_bytes: int) -> FetchError:
    return FetchError(f"the answer has more than {max_bytes} bytes", code="fetch_too_large")


def _failure(target: _Target, error: Exception) -> FetchError:
    if isinstance(error, TimeoutError):
        return FetchError(f"{target.host} took too long", code="fetch_timeout")
    if isinstance(error, ssl.SSLCertVerificationError):
        return FetchError(f"{target.host} has no valid certificate ({error.verify_message})")
    return FetchError(f"cannot read from {target.host}: {error or type(error).__name__}")
