"""HTTP on both sides of the checking proxy: one request and one answer a connection.

h11 reads and writes the messages; here are the sockets, the time limits and the sizes.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

import h11

from moderation.errors import FetchError
from moderation.live.address import bracketed

_CHUNK = 64 * 1024
_INFORMATION = 8
"""Answers "wait, there is more" (1xx) that one server may give."""

Header = tuple[bytes, bytes]


class Limits(Protocol):
    """What `ProxyLimits` says of one connection."""

    @property
    def head_bytes(self) -> int: ...

    @property
    def connect_s(self) -> float: ...

    @property
    def idle_s(self) -> float: ...


@dataclass(frozen=True, slots=True, repr=False)
class Request:
    """What a client asks. Names of headers are in lower case."""

    method: str
    target: str
    headers: tuple[Header, ...]

    def header(self, name: bytes) -> bytes:
        """The value, empty where there is none."""
        return next((value for each, value in self.headers if each == name), b"")


async def read_request(
    reader: asyncio.StreamReader, machine: h11.Connection, head_bytes: int
) -> Request:
    """The client's request, which has no body.

    Raises h11.RemoteProtocolError (no HTTP, a head of more than `head_bytes`, a body) and EOFError.
    """
    request: Request | None = None
    taken = 0
    while True:
        event = machine.next_event()
        if event is h11.NEED_DATA:
            data = await reader.read(_CHUNK)
            taken += len(data)
            if not data:
                raise EOFError
            if taken > head_bytes:
                raise h11.RemoteProtocolError("the request is too long", 431)
            machine.receive_data(data)
        elif isinstance(event, h11.Request):
            headers = tuple((name, value) for name, value in event.headers)
            request = Request(event.method.decode(), event.target.decode("latin-1"), headers)
        elif isinstance(event, h11.EndOfMessage) and request is not None:
            return request
        else:
            raise h11.RemoteProtocolError("the request has a body")


class Answer:
    """The answer to the client. begun: whether a part of it was sent. bodiless: it is one to HEAD.

    Its methods raise OSError where the client is gone, and TimeoutError where it takes nothing for
    `idle_s`.
    """

    def __init__(self, writer: asyncio.StreamWriter, idle_s: float) -> None:
        self.machine = h11.Connection(h11.SERVER)
        self.begun = False
        self.bodiless = False
        self._writer = writer
        self._idle_s = idle_s

    async def begin(self, status: int, headers: Sequence[Header]) -> None:
        self.begun = True
        head = [*headers, (b"Connection", b"close")]
        await self._send(h11.Response(status_code=status, headers=head))

    async def data(self, data: bytes) -> None:
        if data:
            await self._send(h11.Data(data=data))

    async def end(self) -> None:
        await self._send(h11.EndOfMessage())
        self._writer.close()
        async with asyncio.timeout(self._idle_s):
            await self._writer.wait_closed()

    async def refuse(self, status: int, why: str, headers: Sequence[Header] = ()) -> None:
        """A whole answer, with the reason as its text."""
        body = why.encode() + b"\n"
        told = [(b"content-type", b"text/plain; charset=utf-8")]
        await self.begin(status, [*headers, *told, (b"content-length", str(len(body)).encode())])
        await self.data(b"" if self.bodiless else body)
        await self.end()

    async def _send(self, event: h11.Event) -> None:
        data = self.machine.send(event)
        if data:
            self._writer.write(data)
            async with asyncio.timeout(self._idle_s):
                await self._writer.drain()


class Upstream:
    """A connection to a server, for one request. Its methods raise FetchError."""

    def __init__(
        self,
        name: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        limits: Limits,
    ) -> None:
        self.name = name
        self._reader, self._writer = reader, writer
        self._idle_s = limits.idle_s
        self._machine = h11.Connection(h11.CLIENT, max_incomplete_event_size=limits.head_bytes)

    @classmethod
    async def connect(
        cls,
        origin: tuple[str, int],
        addresses: Sequence[str],
        tls: ssl.SSLContext | None,
        limits: Limits,
    ) -> Upstream:
        """Connect to the first of the addresses that answers, under the origin's own name."""
        host, port = origin
        problem: OSError = OSError("no address")
        for address in addresses:
            try:
                # A dead address may not use up the time of those after it.
                async with asyncio.timeout(limits.connect_s / len(addresses)):
                    reader, writer = await asyncio.open_connection(
                        address, port, ssl=tls, server_hostname=host if tls else None
                    )
            except ssl.SSLCertVerificationError as error:
                why = f"{host} has no valid certificate ({error.verify_message})"
                raise FetchError(why) from error
            except OSError as error:  # TimeoutError too
                problem = error
                continue
            default = 80 if tls is None else 443
            name = bracketed(host) + ("" if port == default else f":{port}")
            return cls(name, reader, writer, limits)
        if isinstance(problem, TimeoutError):
            raise FetchError(f"{host} took too long", code="fetch_timeout") from problem
        if isinstance(problem, ssl.SSLError):
            raise FetchError(f"{host} does not speak TLS as it should") from problem
        # asyncio's own words name the address.
        why = os.strerror(problem.errno) if problem.errno else type(problem).__name__
        raise FetchError(f"cannot connect to {host}: {why}") from problem

    async def ask(self, method: str, path: str, headers: Sequence[Header]) -> h11.Response:
        """Send a request without a body, and read the head of the answer."""
        own = [(b"Host", self.name.encode()), (b"Accept-Encoding", b"identity")]
        # Some servers know no names in lower case.
        given = [(name.title(), value) for name, value in headers]
        head = [*own, *given, (b"Connection", b"close")]
        try:
            asked = h11.Request(method=method, target=path, headers=head)
            self._writer.write(self._machine.send(asked) or b"")
            self._writer.write(self._machine.send(h11.EndOfMessage()) or b"")
            await self._writer.drain()
        except (OSError, h11.LocalProtocolError) as error:
            raise FetchError(f"{self.name} cannot be asked") from error
        for _ in range(_INFORMATION):
            event = await self._next()
            if isinstance(event, h11.Response):
                return event
            if not isinstance(event, h11.InformationalResponse):
                break
        raise FetchError(f"{self.name} does not speak HTTP")

    async def body(self) -> AsyncGenerator[bytes, None]:
        """The bytes of the answer's body, as they come."""
        while True:
            event = await self._next()
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return
            else:
                raise FetchError(f"{self.name} broke off")

    def close(self) -> None:
        """Close the connection at once, whatever is under way."""
        self._writer.transport.abort()

    async def _next(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        try:
            while (event := self._machine.next_event()) is h11.NEED_DATA:
                async with asyncio.timeout(self._idle_s):
                    data = await self._reader.read(_CHUNK)
                self._machine.receive_data(data)
        except TimeoutError as error:
            raise FetchError(f"{self.name} sent nothing for long", code="fetch_timeout") from error
        except OSError as error:
            raise FetchError(f"cannot read from {self.name}") from error
        except h11.RemoteProtocolError as error:
            raise FetchError(f"{self.name} broke off or does not speak HTTP") from error
        return event
