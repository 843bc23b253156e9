"""A web server for streams, and a trap: a port that notes whoever connects."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Page = bytes | tuple[int, Mapping[str, str], bytes]
"""A body, or status, headers and body."""


@dataclass
class Web:
    """pages: by path. asked: method, path with query, and headers, in order. Set `pages` at any
    time. A page may be a function of the path with its query. guard: of method, path with query and
    headers; the challenge of a 401, None where they are right."""

    port: int
    scheme: str
    pages: dict[str, Page | Callable[[str], Page]] = field(default_factory=dict)
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    guard: Callable[[str, str, dict[str, str]], str | None] = lambda method, path, headers: None

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def paths(self) -> list[str]:
        return [path for _, path, _ in self.asked]


@contextlib.contextmanager
def web(tls: ssl.SSLContext | None = None) -> Iterator[Web]:
    """A server on a free loopback port. tls: its certificate, for https."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle(self) -> None:
            with contextlib.suppress(OSError):  # clients break off
                super().handle()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            return

        def do_GET(self) -> None:
            made.asked.append((self.command, self.path, dict(self.headers)))
            challenge = made.guard(self.command, self.path, dict(self.headers))
            if challenge is not None:
                self.send_response(401)
                self.send_header("WWW-Authenticate", challenge)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            page = made.pages.get(self.path.partition("?")[0], (404, {}, b"not here"))
            if callable(page):
                page = page(self.path)
            status, headers, body = page if isinstance(page, tuple) else (200, {}, page)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                if value:
                    self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_HEAD(self) -> None:
            self.do_GET()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    made = Web(server.server_port, "https" if tls else "http")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Trap:
    """heard: what every connection said first."""

    port: int
    host: str
    heard: list[bytes] = field(default_factory=list)


@contextlib.contextmanager
def trap(host: str = "127.0.0.1") -> Iterator[Trap]:
    """A port that takes every connection, notes what it says and closes it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server:
        made = Trap(server.getsockname()[1], host)
        stop = threading.Event()

        def listen() -> None:
            while not stop.is_set():
                try:
                    peer, _ = server.accept()
                except OSError:
                    return
                with peer:
                    if stop.is_set():
                        return
                    peer.settimeout(20)
                    try:
                        made.heard.append(peer.recv(4096))
                    except OSError as error:
                        made.heard.append(repr(error).encode())

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield made
        finally:
            stop.set()
            socket.create_connection((host, made.port), timeout=5).close()
            thread.join()
