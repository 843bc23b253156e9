"""URLs that users name: nothing but the public internet, or what the operator allows."""

from __future__ import annotations

import contextlib
import gzip
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.errors import BlobError, FetchError
from moderation.fetch import (
    MAX_REDIRECTS,
    Answered,
    ask,
    check_url,
    fetch,
    is_public,
    post,
    pour,
)
from tests.fakes.certificates import self_signed

LOCAL = ["127.0.0.1"]


class Handler(BaseHTTPRequestHandler):
    """Behaves as the path says, and notes what it was asked."""

    asked: list[tuple[str, str, dict[str, str], bytes]]

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # a client that breaks the handshake off
            super().handle()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        return

    def do_GET(self) -> None:
        self.answer(b"")

    def do_POST(self) -> None:
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))

    def answer(self, body: bytes) -> None:
        self.asked.append((self.command, self.path, dict(self.headers), body))
        name = self.path.split("?")[0].strip("/")
        if name.startswith("to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()
        elif name == "gzip":
            self.reply(gzip.compress(bytes(1_000_000)), {"Content-Encoding": "gzip"})
        elif name == "endless":
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(bytes(65536))
            except OSError:
                self.close_connection = True
        elif name == "drip":
            self.send_response(200)
            self.end_headers()
            try:
                for _ in range(200):
                    self.wfile.write(b"x")
                    time.sleep(0.05)
            except OSError:
                self.close_connection = True
        elif name == "short":
            self.reply(b"half", {"Content-Length": "8"})
        elif name == "liar":
            self.reply(b"x", {"Content-Length": "99999999"})
        elif name.isdigit():
            self.send_response(int(name))
            self.end_headers()
        else:
            self.reply(b"picture " + name.encode(), {"Content-Type": "image/png"})

    def reply(self, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(200)
        for key, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)


class Server:
    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        handler = type("Bound", (Handler,), {"asked": self.asked})
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.port = self.http.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.05,))

    def __enter__(self) -> Server:
        self.thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        yield made


def get(url: str, **options: object) -> bytes:
    defaults = {"allow": LOCAL, "timeout_s": 5, "max_bytes": 10_000}
    return fetch(url, **(defaults | options)).data  # type: ignore[arg-type]


def code_of(url: str, **options: object) -> str:
    with pytest.raises(FetchError) as caught:
        get(url, **options)
    assert caught.value.message.strip()
    return caught.value.code


# --- what may be opened -----------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "255.255.255.255",
        "224.0.0.1",
        "240.0.0.1",
        "::1",
        "::",
        "fe80::1",
        "fc00::1",
        "fec0::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a00:1",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2001:db8::1",
        "2001::1",
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))
    with pytest.raises(FetchError) as caught:
        check_url("http://some.example/", [], resolve=lambda host, port: [address])
    assert caught.value.code == "fetch_forbidden"


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "64:ff9b::101:101"])
def test_public_addresses(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))
    check_url("https://some.example/a.jpg", [], resolve=lambda host, port: [address])


def test_one_private_address_among_public_ones_is_enough() -> None:
    with pytest.raises(FetchError) as caught:
        check_url("http://some.example/", [], resolve=lambda host, port: ["1.1.1.1", "10.0.0.1"])
    assert caught.value.code == "fetch_forbidden"


@pytest.mark.parametrize(
    "url",
    [
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://0/",
        "http://localhost/",
        "http://LOCALHOST./",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
    ],
)
def test_loopback_however_it_is_written(url: str) -> None:
    """Resolved by the system, as a connection would be."""
    with pytest.raises(FetchError) as caught:
        check_url(url, [])
    assert caught.value.code in ("fetch_forbidden", "fetch_failed")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://some.example/",
        "file:///etc/passwd",
        "gopher://some.example/",
        "some.example/a.jpg",
        "http://",
        "http:///a.jpg",
        "http://user:secret@some.example/",
        "http://some.example@127.0.0.1/",
        "http://some.example:0/",
        "http://some.example:99999/",
        "http://some.example:http/",
        "http://some.example:22/",
        "http://some.example:25/",
        "http://some.example\\@127.0.0.1/",
        "http://some.example/\r\nX: y",
        "http://some example/",
        "http://[fe80::1%25eth0]/",
        "http://[::1/",
        "http://" + "a" * 70 + ".example/",
        "",
    ],
)
def test_urls_that_are_refused_without_asking_anybody(url: str) -> None:
    with pytest.raises(FetchError) as caught:
        check_url(url, [], resolve=lambda host, port: ["1.1.1.1"])
    assert caught.value.code == "fetch_forbidden"
    assert "secret" not in caught.value.message


@given(st.text(max_size=60))
def test_any_text_is_refused_or_read(text: str) -> None:
    asked: list[str] = []

    def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["1.1.1.1"]

    for url in (text, "http://" + text):
        with contextlib.suppress(FetchError):
            check_url(url, [], resolve=resolve)
    for host in asked:  # what reaches the name service is a plain host name or address
        assert host
        assert host.isascii()
        assert not set(host) & set(" /@\\%?#")


@pytest.mark.parametrize(
    "allow", [["intra.example"], ["Intra.Example."], ["10.9.8.7"], ["10.0.0.0/8"], ["10.9.8.7/8"]]
)
def test_the_operator_may_allow_hosts_addresses_and_nets(allow: list[str]) -> None:
    check_url("http://intra.example:81/", allow, resolve=lambda host, port: ["10.9.8.7"])
    with pytest.raises(FetchError):
        check_url("http://other.example/", allow, resolve=lambda host, port: ["192.168.0.1"])


def test_allowed_nets_hold_for_mapped_addresses() -> None:
    check_url("http://x.example/", ["10.0.0.0/8"], resolve=lambda h, p: ["::ffff:10.0.0.1"])


def test_an_unknown_host() -> None:
    def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror(-2, "Name or service not known")

    with pytest.raises(FetchError, match="not known") as caught:
        check_url("http://nowhere.example/", [], resolve=unknown)
    assert caught.value.code == "fetch_failed"


# --- fetching ---------------------------------------------------------------------------


def test_fetch(server: Server) -> None:
    got = fetch(f"{server.url}/a.png?b=c#d", allow=LOCAL, timeout_s=5, max_bytes=100)
    assert (got.data, got.content_type) == (b"picture a.png", "image/png")
    ((method, path, headers, _),) = server.asked
    assert (method, path) == ("GET", "/a.png?b=c")
    assert headers["Host"] == f"127.0.0.1:{server.port}"
    assert headers["Accept-Encoding"] == "identity"


def test_loopback_is_forbidden_unless_allowed(server: Server) -> None:
    assert code_of(server.url, allow=[]) == "fetch_forbidden"
    assert server.asked == []


def test_the_checked_address_is_the_one_connected_to(server: Server) -> None:
    """A name server that answers otherwise the second time gains nothing."""
    answers = iter([["127.0.0.1"]])
    url = f"http://rebinding.example:{server.port}/x"
    assert get(url, resolve=lambda host, port: next(answers)) == b"picture x"
    assert server.asked[0][2]["Host"] == f"rebinding.example:{server.port}"
    assert next(answers, None) is None


def test_the_next_address_is_tried(server: Server) -> None:
    # The server listens on 127.0.0.1 alone.
    url = f"http://two.example:{server.port}/x"
    found = get(url, allow=["127.0.0.0/8"], resolve=lambda h, p: ["127.0.0.2", "127.0.0.1"])
    assert found == b"picture x"


def test_proxies_of_the_environment_are_not_used(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert get(f"{server.url}/x") == b"picture x"


def test_redirects_are_followed_and_checked(server: Server) -> None:
    got = fetch(f"{server.url}/to/{server.url}/x", allow=LOCAL, timeout_s=5, max_bytes=100)
    assert (got.data, got.url) == (b"picture x", f"{server.url}/x")
    assert code_of(f"{server.url}/to/http://169.254.169.254/meta") == "fetch_forbidden"
    assert code_of(f"{server.url}/to/file:///etc/passwd") == "fetch_forbidden"
    assert get(f"{server.url}/to//x") == b"picture x"  # relative


@pytest.mark.parametrize(("hops", "fine"), [(MAX_REDIRECTS, True), (MAX_REDIRECTS + 1, False)])
def test_redirects_are_counted(server: Server, hops: int, fine: bool) -> None:
    url = server.url + "/to/" * 0 + "".join(f"/to/{server.url}" for _ in range(hops)) + "/x"
    if fine:
        assert get(url) == b"picture x"
    else:
        assert code_of(url) == "fetch_failed"
        assert len(server.asked) == MAX_REDIRECTS + 1


def test_size_is_limited_by_what_comes_and_by_what_is_announced(server: Server) -> None:
    assert code_of(f"{server.url}/endless") == "fetch_too_large"
    assert code_of(f"{server.url}/liar") == "fetch_too_large"
    assert code_of(f"{server.url}/abc", max_bytes=10) == "fetch_too_large"
    assert get(f"{server.url}/abc", max_bytes=11) == b"picture abc"


def test_time_is_limited_as_a_whole(server: Server) -> None:
    start = time.monotonic()
    assert code_of(f"{server.url}/drip", timeout_s=0.4) == "fetch_timeout"
    assert time.monotonic() - start < 8


def test_a_head_that_never_ends_is_timed() -> None:
    def drip() -> None:
        peer, _ = listener.accept()
        with peer:
            try:
                peer.sendall(b"HTTP/1.1 200 OK\r\n")
                for index in range(100):
                    peer.sendall(b"X-%d: y\r\n" % index)
                    time.sleep(0.05)
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        assert code_of(url, timeout_s=0.4) == "fetch_timeout"
        thread.join()


def test_a_resolver_that_hangs_is_timed() -> None:
    release = threading.Event()

    def hang(host: str, port: int) -> list[str]:
        release.wait(20)
        return ["127.0.0.1"]

    assert code_of("http://slow.example/", resolve=hang, timeout_s=0.2) == "fetch_timeout"
    release.set()


def test_a_compressed_answer_is_refused(server: Server) -> None:
    assert code_of(f"{server.url}/gzip") == "fetch_failed"


@pytest.mark.parametrize("path", ["404", "500", "204", "short", "302"])
def test_other_answers_are_failures(server: Server, path: str) -> None:
    assert code_of(f"{server.url}/{path}") == "fetch_failed"


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert code_of(f"http://127.0.0.1:{port}/") == "fetch_failed"


@pytest.mark.parametrize("junk", [b"", b"no http at all\r\n\r\n", b"HTTP/1.1 200 OK\r\n" * 200])
def test_a_server_that_speaks_something_else(junk: bytes) -> None:
    def answer() -> None:
        peer, _ = listener.accept()
        with peer:
            peer.recv(65536)
            peer.sendall(junk)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer)
        thread.start()
        assert code_of(f"http://127.0.0.1:{listener.getsockname()[1]}/") == "fetch_failed"
        thread.join()


# --- TLS --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a self-signed certificate for secure.example, and its key."""
    return self_signed(tmp_path_factory.mktemp("tls"), "secure.example")


def test_tls_checks_the_name_of_the_url_though_the_address_is_pinned(
    certificate: Path,
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    names: list[str | None] = []
    context.sni_callback = lambda sock, name, ctx: names.append(name)
    trust = ssl.create_default_context(cafile=str(certificate))
    secure = Server()
    secure.http.socket = context.wrap_socket(
        secure.http.socket, server_side=True, do_handshake_on_connect=False
    )
    with secure:

        def resolve(host: str, port: int) -> list[str]:
            return ["127.0.0.1"]

        url = f"https://secure.example:{secure.port}/x"
        assert get(url, resolve=resolve, tls=trust) == b"picture x"
        assert names == ["secure.example"]
        with pytest.raises(FetchError, match="certificate"):
            get(url.replace("secure.", "other."), resolve=resolve, tls=trust)
        with pytest.raises(FetchError, match="certificate"):
            get(url, resolve=resolve)  # an issuer that the system does not trust


# --- posting ----------------------------------------------------------------------------


def test_post(server: Server) -> None:
    status = post(f"{server.url}/hook", b'{"a":1}', {"webhook-id": "m1"}, allow=LOCAL, timeout_s=5)
    assert status == 200
    ((method, path, headers, body),) = server.asked
    assert (method, path, body) == ("POST", "/hook", b'{"a":1}')
    assert headers["webhook-id"] == "m1"


def test_post_follows_no_redirect_and_returns_any_status(server: Server) -> None:
    assert post(f"{server.url}/503", b"", {}, allow=LOCAL, timeout_s=5) == 503
    assert post(f"{server.url}/to/{server.url}/x", b"", {}, allow=LOCAL, timeout_s=5) == 302
    assert len(server.asked) == 2


def test_post_keeps_to_the_same_rules(server: Server) -> None:
    with pytest.raises(FetchError) as caught:
        post(f"{server.url}/hook", b"", {}, allow=[], timeout_s=5)
    assert caught.value.code == "fetch_forbidden"
    assert server.asked == []


def test_what_a_post_is_answered_is_read_up_to_a_bound(server: Server) -> None:
    def told(path: str, at_most: int = 100) -> Answered:
        words = {"allow": LOCAL, "timeout_s": 5, "max_bytes": at_most}
        return ask(f"{server.url}/{path}", b"x", {}, **words)

    found = told("hook")
    assert found == Answered(200, found.data)
    assert found.data
    assert told("503").status == 503
    with pytest.raises(FetchError) as caught:
        told("hook", len(found.data) - 1)
    assert caught.value.code == "fetch_too_large"


# --- into a file ------------------------------------------------------------------------


def test_bytes_are_poured_while_they_come(server: Server) -> None:
    got: list[bytes] = []
    told = pour(f"{server.url}/to//film.mp4", got.append, allow=LOCAL, timeout_s=5, max_bytes=1000)
    assert (b"".join(got), told.url) == (b"picture film.mp4", f"{server.url}/film.mp4")
    assert told.content_type == "image/png"


def test_no_more_is_poured_than_allowed(server: Server) -> None:
    got: list[int] = []
    with pytest.raises(FetchError) as caught:
        pour(
            f"{server.url}/endless",
            lambda data: got.append(len(data)),
            allow=LOCAL,
            timeout_s=5,
            max_bytes=300_000,
        )
    assert caught.value.code == "fetch_too_large"
    assert sum(got) <= 300_000


def test_what_the_writer_raises_passes_through(server: Server) -> None:
    def full(data: bytes) -> None:
        raise BlobError("no room")

    with pytest.raises(BlobError):
        pour(f"{server.url}/x", full, allow=LOCAL, timeout_s=5, max_bytes=1000)
