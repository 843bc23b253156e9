"""The only way of an HTTP source to the net: a forward proxy of ours, on loopback.

ffmpeg follows playlists, keys, segments and redirects by itself. Here each of its requests has its
host resolved and checked (`moderation.reach`), and the connection goes to an address that was
checked. TLS is spoken here, with the certificate checked for the name: ffmpeg needs no protocol
but plain http, so that a playlist cannot make it open anything else, and user and password of the
stream are sent from here, to its own host alone. CONNECT, and with it a tunnel that nobody looks
into, is refused.

Every attempt at a stream has a pass with a token of its own. Why a request was refused is kept on
the pass, since ffmpeg only tells a number.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import functools
import secrets
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import h11

from moderation import reach
from moderation.errors import FetchError
from moderation.live.http import Answer, Request, Upstream, read_request
from moderation.live.login import Login
from moderation.live.playlist import FIRST_LINE, Origin, is_finished, plain, rewritten
from moderation.live.source import SourcePlan
from moderation.reach import Resolver, forbidden, system_resolver

KNOWN_S = 5.0
"""How long a pass keeps to the addresses that it found for a host."""

NAMES_AT_ONCE = 64
_USER = "stream"
_MAX_ORIGINS = 256
_TO_CLIENT = frozenset(
    (
        *(b"content-type", b"content-length", b"content-range", b"accept-ranges", b"set-cookie"),
        *(b"www-authenticate", b"retry-after", b"location", b"icy-metaint", b"icy-name"),
    )
)
_SIZED = (b"content-length", b"content-range", b"accept-ranges")
_TO_SERVER = frozenset(
    (b"user-agent", b"accept", b"range", b"cookie", b"authorization", b"referer", b"icy-metadata")
)


@dataclass(frozen=True, slots=True)
class ProxyLimits:
    """head_bytes: of a request's or an answer's head. head_s: for a request to come. connect_s: for
    resolving, and again for connecting. idle_s: without a byte. connections: of one pass at a time.
    requests: of one pass in a minute. playlist_bytes: of one playlist."""

    head_bytes: int = 32 * 1024
    head_s: float = 10.0
    connect_s: float = 10.0
    idle_s: float = 30.0
    connections: int = 16
    requests: int = 1200
    playlist_bytes: int = 2 * 1024 * 1024


@dataclass(slots=True, eq=False)
class Pass:
    """The way of one attempt at a stream through the proxy.

    url: for ffmpeg's `-http_proxy`; secret. refusal: why the proxy last refused to open something
    (it answers 403); stays. failure: why the last request could not be done, None where it could.
    status: the HTTP status that the stream's own host last gave. finished: a playlist said that
    nothing more comes. All outrank what ffmpeg says (`moderation.live.told`).
    """

    url: str = field(repr=False)
    refusal: str | None = None
    failure: str | None = None
    status: int | None = None
    finished: bool = False
    _origin: Origin = field(default=("", 0), repr=False)
    _token: str = field(default="", repr=False)
    _login: Login | None = field(default=None, repr=False)
    _tls: set[Origin] = field(default_factory=set, repr=False)
    _known: dict[Origin, tuple[float, tuple[str, ...]]] = field(default_factory=dict, repr=False)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set, repr=False)
    _times: deque[float] = field(default_factory=deque, repr=False)

    def speaks_tls(self, origin: Origin) -> None:
        """Requests to this origin go by TLS from now on. Raises FetchError above 256 of them."""
        if origin not in self._tls and len(self._tls) >= _MAX_ORIGINS:
            raise forbidden("the stream refers to too many hosts")
        self._tls.add(origin)


class CheckingProxy:
    """A forward proxy on a free loopback port. All methods belong to the event loop it started in.

    allow: as in `moderation.reach.checked`. tls: context of connections to https origins.
    """

    def __init__(
        self,
        allow: Sequence[str],
        *,
        limits: ProxyLimits | None = None,
        resolve: Resolver = system_resolver,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._allow = tuple(allow)
        self._limits = limits or ProxyLimits()
        self._resolve = resolve
        self._tls = tls or ssl.create_default_context()
        # Of its own: names that are slow to resolve must not hold up anything else.
        self._names = ThreadPoolExecutor(NAMES_AT_ONCE, thread_name_prefix="stream-names")
        self._passes: dict[str, Pass] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen. Raises OSError."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening, and end all connections."""
        if self._server is not None:
            self._server.close()
        self._passes.clear()
        await _end(self._tasks)
        self._names.shutdown(wait=False, cancel_futures=True)
        if self._server is not None:
            await self._server.wait_closed()

    def admit(self, plan: SourcePlan) -> Pass:
        """A pass for one attempt at this source."""
        if not plan.proxied:
            raise ValueError("only HTTP sources go through the proxy")
        token = secrets.token_urlsafe(24)
        url = plan.url
        made = Pass(
            f"http://{_USER}:{token}@127.0.0.1:{self.port}",
            _origin=(url.host, url.port),
            _token=token,
        )
        if url.scheme == "https":
            made.speaks_tls(made._origin)
        if url.user is not None:
            made._login = Login(url.user, url.password or "")
        self._passes[token] = made
        return made

    async def revoke(self, gone: Pass) -> None:
        """End the connections of a pass; its token is worth nothing from now on."""
        self._passes.pop(gone._token, None)
        await _end(gone._tasks)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("no task")  # a server's callback runs in one
        self._tasks.add(task)
        try:
            await self._answer(reader, Answer(writer, self._limits.idle_s))
        except (OSError, TimeoutError, h11.ProtocolError):
            # The client is gone, or an answer broke off in the middle: the connection's end is all
            # that can be told.
            pass
        except asyncio.CancelledError:
            # By `revoke` or `close`; older versions of asyncio's server log it as an error.
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, answer: Answer) -> None:
        try:
            async with asyncio.timeout(self._limits.head_s):
                request = await read_request(reader, answer.machine, self._limits.head_bytes)
        except (h11.RemoteProtocolError, EOFError):
            await answer.refuse(400, "no request that a proxy can read")
            return
        answer.bodiless = request.method == "HEAD"
        gate = self._gate(request)
        if gate is None:
            challenge = [(b"Proxy-Authenticate", b'Basic realm="moderation"')]
            await answer.refuse(407, "no pass", challenge)
            return
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("no task")
        gate._tasks.add(task)
        try:
            await self._watched(reader, request, answer, gate)
        finally:
            gate._tasks.discard(task)

    async def _watched(
        self, reader: asyncio.StreamReader, request: Request, answer: Answer, gate: Pass
    ) -> None:
        """Fetch for the client, until it is through or gone."""
        fetching = asyncio.ensure_future(self._fetch(request, answer, gate))
        going = asyncio.ensure_future(reader.read(1))  # nothing may come but the end
        try:
            await asyncio.wait((fetching, going), return_when=asyncio.FIRST_COMPLETED)
            if fetching.done():
                fetching.result()
        finally:
            await _end({fetching, going})

    async def _fetch(self, request: Request, answer: Answer, gate: Pass) -> None:
        try:
            self._admissible(request, gate)
            await self._relay(request, answer, gate)
        except FetchError as error:
            refused = error.code == "fetch_forbidden"
            gate.failure = error.message
            if refused:
                gate.refusal = error.message
            if answer.begun:
                raise ConnectionAbortedError from error
            await answer.refuse(403 if refused else 502, error.message)

    def _admissible(self, request: Request, gate: Pass) -> None:
        if request.method not in ("GET", "HEAD"):
            raise forbidden(f"the proxy does no {request.method[:20]}")
        if len(gate._tasks) > self._limits.connections:
            raise forbidden("the stream opens too many connections")
        now = time.monotonic()
        gate._times.append(now)
        while gate._times[0] < now - 60:
            gate._times.popleft()
        if len(gate._times) > self._limits.requests:
            raise forbidden("the stream asks for too much")

    async def _relay(self, request: Request, answer: Answer, gate: Pass) -> None:
        parts = reach.split(request.target)
        if parts.scheme != "http" or "@" in parts.netloc:
            raise forbidden("only http and https may be read")
        host, port = reach.host_and_port(parts)
        origin = (host, port or 80)
        addresses = await self._addresses(origin, gate)
        tls = self._tls if origin in gate._tls else None
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        own = origin == gate._origin
        login = gate._login if own and not request.header(b"authorization") else None
        headers = [(name, value) for name, value in request.headers if name in _TO_SERVER]
        for attempt in (1, 2):
            word = login.header(request.method, path) if login else None
            who = [] if word is None else [(b"authorization", word)]
            server = await Upstream.connect(origin, addresses, tls, self._limits)
            try:
                response = await server.ask(request.method, path, [*headers, *who])
                again = response.status_code == 401 and attempt == 1
                if again and login and login.learn(_challenges(response), word):
                    continue
                if own:
                    gate.status = response.status_code
                url = f"{'http' if tls is None else 'https'}://{server.name}{path}"
                await self._pass_on(response, server, answer, gate, url)
                return
            finally:
                server.close()

    async def _addresses(self, origin: Origin, gate: Pass) -> tuple[str, ...]:
        """Checked addresses; for some seconds the same, since every piece of a stream asks."""
        now = time.monotonic()
        until, addresses = gate._known.get(origin, (0.0, ()))
        if now < until:
            return addresses
        addresses = await asyncio.get_running_loop().run_in_executor(
            self._names,
            functools.partial(
                reach.checked,
                *(*origin, self._allow),
                deadline=now + self._limits.connect_s,
                resolve=self._resolve,
            ),
        )
        if len(gate._known) >= _MAX_ORIGINS:
            gate._known.clear()
        gate._known[origin] = (time.monotonic() + KNOWN_S, addresses)
        return addresses

    async def _pass_on(
        self, response: h11.Response, server: Upstream, answer: Answer, gate: Pass, url: str
    ) -> None:
        """The answer of a server at `url` (its true one), to the client."""
        headers = [(name, value) for name, value in response.headers if name in _TO_CLIENT]
        packed = [value for name, value in response.headers if name == b"content-encoding"]
        if any(value.strip().lower() != b"identity" for value in packed):
            raise FetchError("the answer is compressed, though that was not asked for")
        if response.status_code == 407:
            raise FetchError("the server says that it is a proxy")
        headers = [_plain_location(header, url, gate) for header in headers]
        status = response.status_code
        async with contextlib.aclosing(server.body()) as body:
            first = b""
            async for part in body:
                first += part
                if len(first) >= len(FIRST_LINE):
                    break
            if first.startswith(FIRST_LINE):
                first += await self._rest(body, self._limits.playlist_bytes - len(first))
                gate.finished = gate.finished or is_finished(first)
                first = rewritten(first, url, gate.speaks_tls)
                headers = [header for header in headers if header[0] not in _SIZED]
                headers.append((b"content-length", str(len(first)).encode()))
                status = 200 if status == 206 else status
            await answer.begin(status, headers)
            await answer.data(first)
            async for part in body:
                await answer.data(part)
        gate.failure = None
        await answer.end()

    @staticmethod
    async def _rest(body: AsyncIterator[bytes], room: int) -> bytes:
        """What else a playlist has, at most `room` bytes of it."""
        rest = bytearray()
        async for part in body:
            rest += part
            if len(rest) > room:
                break
        if len(rest) > room:
            raise FetchError("the playlist is too long", code="fetch_too_large")
        return bytes(rest)

    def _gate(self, request: Request) -> Pass | None:
        kind, _, coded = request.header(b"proxy-authorization").partition(b" ")
        if kind.lower() != b"basic":
            return None
        try:
            user, _, token = base64.b64decode(coded.strip(), validate=True).partition(b":")
        except binascii.Error:
            return None
        if user != _USER.encode():
            return None
        # 192 random bits: how long a look-up takes tells nothing that helps.
        return self._passes.get(token.decode("latin-1"))


def _challenges(response: h11.Response) -> list[str]:
    """What a server that answers 401 wants."""
    wanted = [value for name, value in response.headers if name == b"www-authenticate"]
    return [value.decode("latin-1") for value in wanted]


def _plain_location(header: tuple[bytes, bytes], url: str, gate: Pass) -> tuple[bytes, bytes]:
    name, value = header
    if name != b"location":
        return header
    made, origin = plain(value.decode("latin-1").strip(), url)
    if origin is not None:
        gate.speaks_tls(origin)
    return name, made.encode("latin-1")


async def _end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel the tasks, and wait until they are through."""
    others = [task for task in tasks if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
