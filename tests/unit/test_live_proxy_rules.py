"""The checking proxy by its protocol: passes, limits, broken servers, ends. And its playlists."""

from __future__ import annotations

import base64
import contextlib
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.errors import FetchError
from moderation.live.playlist import plain, rewritten
from moderation.live.proxy import Pass, ProxyLimits
from moderation.live.proxy_thread import ProxyThread
from moderation.live.source import plan
from moderation.settings import load_settings
from tests.fakes.web import Web, web
from tests.servers import wait_for

LOCAL = ["127.0.0.1"]
SMALL = ProxyLimits(
    head_bytes=4096,
    head_s=30,
    connect_s=30,
    idle_s=30,
    connections=2,
    requests=5,
    playlist_bytes=1000,
)


@pytest.fixture
def server() -> Iterator[Web]:
    with web() as made:
        made.pages["/a"] = b"some bytes"
        yield made


@pytest.fixture
def proxy() -> Iterator[ProxyThread]:
    with ProxyThread(LOCAL, limits=SMALL) as made:
        yield made


@pytest.fixture
def hasty() -> Iterator[ProxyThread]:
    """One that soon gives up whoever says nothing."""
    with ProxyThread(LOCAL, limits=replace(SMALL, head_s=0.5, idle_s=0.5)) as made:
        yield made


def admit(proxy: ProxyThread, url: str) -> Pass:
    return proxy.admit(plan(url, load_settings(fetch_allow="127.0.0.1")))


def token_of(gate: Pass) -> str:
    return gate.url.partition("//")[2].partition("@")[0]


def connect(proxy: ProxyThread) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=10)


def head(url: str, gate: Pass | None, method: str = "GET", more: str = "") -> bytes:
    word = f"Proxy-Authorization: Basic {_coded(token_of(gate))}\r\n" if gate else ""
    return f"{method} {url} HTTP/1.1\r\nHost: x\r\n{word}{more}\r\n".encode()


def _coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def everything(connection: socket.socket) -> bytes:
    """What comes until the other side ends, in whatever way."""
    data = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            data += part
    return bytes(data)


def ask(proxy: ProxyThread, request: bytes) -> tuple[int, bytes]:
    """Status (0 for none) and all that follows the first line."""
    with connect(proxy) as connection:
        connection.sendall(request)
        first, _, rest = everything(connection).partition(b"\r\n")
    return (int(first.split()[1]), rest) if first else (0, b"")


@contextlib.contextmanager
def raw_server(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """URL of a server that does with each connection as `serve` says."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer, _ = listener.accept()
                    with peer, contextlib.suppress(OSError):
                        if over.is_set():
                            return
                        peer.settimeout(10)
                        serve(peer)

        over = threading.Event()
        thread = threading.Thread(target=accept)
        thread.start()
        port = listener.getsockname()[1]
        try:
            yield f"http://127.0.0.1:{port}/a"
        finally:
            over.set()
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            thread.join()


# --- passes -----------------------------------------------------------------------------------


def test_who_has_a_pass_is_served(proxy: ProxyThread, server: Web) -> None:
    gate = admit(proxy, f"{server.url}/a")
    status, rest = ask(proxy, head(f"{server.url}/a", gate, more="Range: bytes=0-\r\nX-Own: 1\r\n"))
    assert (status, rest.partition(b"\r\n\r\n")[2]) == (200, b"some bytes")
    ((_, path, headers),) = server.asked
    assert (path, headers["Range"]) == ("/a", "bytes=0-")
    assert "X-Own" not in headers
    assert ask(proxy, head(f"{server.url}/a", gate, "HEAD"))[0] == 200


@pytest.mark.parametrize(
    "word",
    [
        "",
        "Basic",
        "Basic !!",
        "Bearer x",
        f"Basic {_coded('stream:')}",
        f"Basic {_coded('stream:x')}",
    ],
)
def test_nobody_else_is(proxy: ProxyThread, server: Web, word: str) -> None:
    admit(proxy, f"{server.url}/a")
    line = f"Proxy-Authorization: {word}\r\n" if word else ""
    status, rest = ask(proxy, head(f"{server.url}/a", None, more=line))
    assert (status, server.asked) == (407, [])
    assert b"Basic realm" in rest


def test_another_name_with_the_token_is_not_enough(proxy: ProxyThread, server: Web) -> None:
    gate = admit(proxy, f"{server.url}/a")
    other = _coded(token_of(gate).replace("stream:", "streams:"))
    assert ask(
        proxy, head(f"{server.url}/a", None, more=f"Proxy-Authorization: Basic {other}\r\n")
    )[0] == (407)


def test_a_pass_that_was_taken_back_is_worth_nothing(proxy: ProxyThread, server: Web) -> None:
    gate = admit(proxy, f"{server.url}/a")
    proxy.revoke(gate)
    assert ask(proxy, head(f"{server.url}/a", gate))[0] == 407


def test_tokens_are_not_shown(proxy: ProxyThread, server: Web) -> None:
    gate = admit(proxy, f"{server.url}/a")
    assert token_of(gate).removeprefix("stream:") not in repr(gate)


def test_other_sources_get_no_pass(proxy: ProxyThread) -> None:
    with pytest.raises(ValueError, match="HTTP"):
        admit(proxy, "rtsp://127.0.0.1/x")


# --- requests ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["CONNECT", "POST", "PUT", "OPTIONS", "TRACE", "SOURCE"])
def test_other_methods_are_refused(proxy: ProxyThread, server: Web, method: str) -> None:
    gate = admit(proxy, f"{server.url}/a")
    target = f"127.0.0.1:{server.port}" if method == "CONNECT" else f"{server.url}/a"
    assert ask(proxy, head(target, gate, method))[0] == 403
    assert (server.asked, gate.refusal) == ([], f"the proxy does no {method}")


@pytest.mark.parametrize(
    "target",
    [
        "/a",
        "*",
        "127.0.0.1:80",
        "file:///etc/passwd",
        "https://127.0.0.1/a",
        "http://u:p@127.0.0.1/a",
    ],
)
def test_other_targets_are_refused(proxy: ProxyThread, server: Web, target: str) -> None:
    gate = admit(proxy, f"{server.url}/a")
    assert ask(proxy, head(target, gate))[0] == 403
    assert gate.refusal


@pytest.mark.parametrize(
    "request_",
    [
        b"\r\n\r\n\r\n",
        b"no http\r\n\r\n",
        b"GET http://127.0.0.1/ HTTP/1.1\r\n\r\n",
        b"GET http://a b/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://127.0.0.1/ HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 9000 + b"\r\n\r\n",
        b"GET http://127.0.0.1/ HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody",
        b"GET http://127.0.0.1/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        bytes(5000),
    ],
)
def test_what_is_no_request_is_answered_or_cut_off(hasty: ProxyThread, request_: bytes) -> None:
    assert ask(hasty, request_)[0] in (0, 400)


def test_a_request_that_never_ends_is_cut_off(hasty: ProxyThread) -> None:
    with connect(hasty) as connection:
        connection.sendall(b"GET http://127.0.0.1/ HTTP/1.1\r\n")
        assert everything(connection) == b""


# --- limits -----------------------------------------------------------------------------------


def test_requests_of_a_minute_are_counted(proxy: ProxyThread, server: Web) -> None:
    gate, other = admit(proxy, f"{server.url}/a"), admit(proxy, f"{server.url}/a")
    seen = [ask(proxy, head(f"{server.url}/a", gate))[0] for _ in range(SMALL.requests + 1)]
    assert seen == [200] * SMALL.requests + [403]
    assert "too much" in str(gate.refusal)
    assert ask(proxy, head(f"{server.url}/a", other))[0] == 200


def test_connections_at_a_time_are_counted(proxy: ProxyThread) -> None:
    hold = threading.Event()

    def serve(peer: socket.socket) -> None:
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n12345678")
        hold.wait(10)

    with raw_server(serve) as url, contextlib.ExitStack() as stack:
        gate = admit(proxy, url)
        for _ in range(SMALL.connections):
            open_ = stack.enter_context(connect(proxy))
            open_.sendall(head(url, gate))
        wait_for(lambda: len(gate._tasks) == SMALL.connections, "both are under way")
        assert ask(proxy, head(url, gate))[0] == 403
        assert "connections" in str(gate.refusal)
        hold.set()


def test_a_playlist_has_a_size(proxy: ProxyThread, server: Web) -> None:
    server.pages |= {"/ok": b"#EXTM3U\n" + b"#" * 900, "/big": b"#EXTM3U\n" + b"#" * 1000}
    gate = admit(proxy, f"{server.url}/a")
    assert ask(proxy, head(f"{server.url}/ok", gate))[0] == 200
    assert ask(proxy, head(f"{server.url}/big", gate))[0] == 502
    assert gate.failure == "the playlist is too long"


def test_a_resolver_that_hangs_is_timed(server: Web) -> None:
    release = threading.Event()

    def hang(host: str, port: int) -> list[str]:
        release.wait(20)
        return LOCAL

    limits = ProxyLimits(connect_s=0.2)
    with ProxyThread(LOCAL, limits=limits, resolve=hang) as proxy:
        gate = admit(proxy, f"{server.url}/a")
        assert ask(proxy, head("http://slow.example/a", gate))[0] == 502
        assert "too long" in str(gate.failure)
        release.set()


def test_a_host_is_resolved_once_for_some_seconds_and_anew_for_another_pass(
    server: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moderation.live.proxy.KNOWN_S", 600)
    asked: list[str] = []

    def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return LOCAL

    url = f"http://some.example:{server.port}/a"
    with ProxyThread(LOCAL, resolve=resolve) as proxy:
        gate = admit(proxy, f"{server.url}/a")
        assert [ask(proxy, head(url, gate))[0] for _ in range(3)] == [200] * 3
        assert asked == ["some.example"]
        assert ask(proxy, head(url, admit(proxy, f"{server.url}/a")))[0] == 200
    assert asked == ["some.example"] * 2


# --- servers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "broke off"),
        (b"ICY 200 OK\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 9000, "does not speak HTTP"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 20, "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nx", "compressed"),
        (b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n", "proxy"),
        (b"HTTP/1.1 302 No\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n", "'file'"),
    ],
)
def test_bad_answers(proxy: ProxyThread, answer: bytes, why: str) -> None:
    def serve(peer: socket.socket) -> None:
        peer.recv(65536)
        peer.sendall(answer)

    with raw_server(serve) as url:
        gate = admit(proxy, url)
        assert ask(proxy, head(url, gate))[0] in (403, 502)
        assert why in str(gate.failure)


def test_a_server_that_falls_silent_is_left(hasty: ProxyThread) -> None:
    silent = threading.Event()

    def serve(peer: socket.socket) -> None:
        peer.recv(65536)
        silent.wait(10)

    with raw_server(serve) as url:
        gate = admit(hasty, url)
        assert ask(hasty, head(url, gate))[0] == 502
        assert "nothing for long" in str(gate.failure)
        silent.set()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome bytes",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nsome bytes\r\n",
    ],
)
def test_an_answer_that_breaks_off_is_no_whole_answer(proxy: ProxyThread, answer: bytes) -> None:
    def serve(peer: socket.socket) -> None:
        peer.recv(65536)
        peer.sendall(answer)

    with raw_server(serve) as url:
        gate = admit(proxy, url)
        _, rest = ask(proxy, head(url, gate))
    assert b"0\r\n\r\n" not in rest.partition(b"\r\n\r\n")[2]
    assert b"Content-Length: 10\r\n" not in rest.title()
    assert "broke off" in str(gate.failure)


def test_a_failure_is_forgotten_when_the_next_request_is_well(
    proxy: ProxyThread, server: Web
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nobody = listener.getsockname()[1]
    gate = admit(proxy, f"{server.url}/a")
    assert ask(proxy, head(f"http://127.0.0.1:{nobody}/a", gate))[0] == 502
    assert "cannot connect" in str(gate.failure)
    assert ask(proxy, head(f"{server.url}/a", gate))[0] == 200
    assert (gate.failure, gate.refusal) == (None, None)


def test_the_next_address_is_tried(server: Web) -> None:
    with ProxyThread(["127.0.0.0/8"], resolve=lambda h, p: ["127.0.0.2", "127.0.0.1"]) as proxy:
        gate = admit(proxy, f"{server.url}/a")
        assert ask(proxy, head(f"http://two.example:{server.port}/a", gate))[0] == 200


# --- ends -------------------------------------------------------------------------------------


def endless(ended: threading.Event) -> Callable[[socket.socket], None]:
    def serve(peer: socket.socket) -> None:
        peer.recv(65536)
        peer.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                peer.sendall(bytes(1000))
        finally:
            ended.set()

    return serve


@pytest.mark.parametrize("end", ["revoke", "close", "client"])
def test_both_connections_end_together(end: str) -> None:
    ended = threading.Event()
    with (
        raw_server(endless(ended)) as url,
        ProxyThread(LOCAL) as proxy,
        connect(proxy) as connection,
    ):
        gate = admit(proxy, url)
        connection.sendall(head(url, gate))
        assert connection.recv(10) == b"HTTP/1.1 2"
        if end == "client":
            connection.close()
        elif end == "revoke":
            proxy.revoke(gate)
        else:
            proxy.close()
        assert ended.wait(10)
        if end != "client":
            everything(connection)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(sys.platform != "linux", reason="counts in /proc")
def test_nothing_is_left_of_many_requests(server: Web) -> None:
    """Whole answers, clients that leave, refusals, nobody there: no file and no task remains."""
    server.pages["/big"] = bytes(2_000_000)
    with ProxyThread(LOCAL) as proxy:
        before = open_files()
        for _ in range(4):
            gate = admit(proxy, f"{server.url}/a")
            for _ in range(5):
                assert ask(proxy, head(f"{server.url}/a", gate))[0] == 200
                assert ask(proxy, head("http://10.0.0.1/a", gate))[0] == 403
                assert ask(proxy, head("http://127.0.0.1:1/a", gate))[0] in (403, 502)
                with connect(proxy) as connection:
                    connection.sendall(head(f"{server.url}/big", gate))
                    assert connection.recv(5) == b"HTTP/"
            wait_for(lambda gate=gate: not gate._tasks, "the pass is idle")  # type: ignore[misc]
            proxy.revoke(gate)
        inner = proxy._proxy
        wait_for(lambda: not inner._tasks, "nothing is under way")
        assert inner._passes == {}
        # The server's side closes in its own time.
        wait_for(lambda: open_files() <= before, "all connections are closed")


def test_closing_twice_and_while_idle() -> None:
    proxy = ProxyThread(LOCAL)
    port = proxy.port
    proxy.close()
    proxy.close()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=5)


# --- playlists --------------------------------------------------------------------------------

BASE = "https://a.example/live/x.m3u8"


@pytest.mark.parametrize(
    ("url", "told", "origin"),
    [
        ("seg1.ts", "seg1.ts", None),
        ("/a/seg1.ts?k=v", "/a/seg1.ts?k=v", None),
        ("http://B.example/x", "http://b.example:80/x", None),
        ("https://b.example/x?k=v", "http://b.example:443/x?k=v", ("b.example", 443)),
        ("https://b.example:8443", "http://b.example:8443", ("b.example", 8443)),
        ("HTTPS://b.example/a b", "http://b.example:443/a%20b", ("b.example", 443)),
        ("//b.example/x", "http://b.example:443/x", ("b.example", 443)),
        ("https://u:p@[2606:4700::1]/x", "http://u:p@[2606:4700::1]:443/x", ("2606:4700::1", 443)),
    ],
)
def test_addresses_in_playlists(url: str, told: str, origin: tuple[str, int] | None) -> None:
    assert plain(url, BASE) == (told, origin)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "httpproxy://127.0.0.1:80/x",
        "crypto+http://127.0.0.1/x",
        "subfile,,start,0,end,9,,:/etc/passwd",
        "data:;base64,AA",
        "skd://x",
        "https://",
        "https://a.example:0/x",
        "http://[::1/x",
    ],
)
def test_other_addresses_refuse_the_playlist(url: str) -> None:
    for line in (url, f'#EXT-X-KEY:METHOD=AES-128,URI="{url}"', f'#EXT-X-MAP:URI="{url}"'):
        with pytest.raises(FetchError) as caught:
            rewritten(f"#EXTM3U\n{line}\n".encode(), BASE, lambda origin: None)
        assert caught.value.code == "fetch_forbidden"


def test_a_playlist_with_https_in_all_places() -> None:
    seen: set[tuple[str, int]] = set()
    given_ = (
        b'#EXTM3U\r\n#EXT-X-KEY:METHOD=AES-128,URI="https://k.example/k",IV=0x1\n'
        b'#EXT-X-DATERANGE:ID="1",X-ASSET-URI="https://ad.example/x"\n'
        b"# https://comment.example/\n#EXTINF:1,https://title.example/\nhttps://s.example/1.ts\r"
        b"2.ts\n\n\xff.ts\n"
    )
    assert rewritten(given_, BASE, seen.add) == given_.replace(
        b"https://k.example", b"http://k.example:443"
    ).replace(b"https://s.example", b"http://s.example:443")
    assert seen == {("k.example", 443), ("s.example", 443)}


@given(st.binary(max_size=300))
def test_any_bytes_are_rewritten_or_refused(data: bytes) -> None:
    """Once rewritten, nothing is left to rewrite: no https and no other kind."""
    seen: list[tuple[str, int]] = []
    with contextlib.suppress(FetchError):
        once = rewritten(b"#EXTM3U\n" + data, BASE, seen.append)
        seen.clear()
        assert rewritten(once, BASE, seen.append) == once
        assert seen == []
