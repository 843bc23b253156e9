"""Live sources read by the real ffmpeg: what plays, through the checking proxy and directly."""

from __future__ import annotations

import hashlib
import re
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from moderation.live.proxy_thread import ProxyThread
from tests.fakes.certificates import self_signed, server_context
from tests.fakes.playing import FRAMES, play, stream_files
from tests.fakes.web import Web, web
from tests.integration.live_source import listens
from tests.live_servers import publishing
from tests.servers import free_port, wait_for

HOST = "studio.example"
HTTP = ("plain.m3u8", "parts.m3u8", "locked.m3u8", "a.flv", "a.ts")


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return stream_files(tmp_path_factory.mktemp("streams"))


@pytest.fixture
def server(media: dict[str, bytes]) -> Iterator[Web]:
    with web() as made:
        made.pages |= media
        yield made


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return self_signed(tmp_path_factory.mktemp("tls"), HOST)


@pytest.fixture
def secure(media: dict[str, bytes], certificate: Path) -> Iterator[Web]:
    with web(server_context(certificate)) as made:
        made.pages |= media
        yield made


@pytest.fixture
def proxy(certificate: Path) -> Iterator[ProxyThread]:
    """Trusts the certificate, and knows where the host is."""
    trust = ssl.create_default_context(cafile=str(certificate))
    with ProxyThread([HOST], resolve=lambda host, port: ["127.0.0.1"], tls=trust) as made:
        yield made


@pytest.mark.parametrize("name", HTTP)
def test_http_sources_play(server: Web, name: str) -> None:
    heard = play(f"{server.url}/{name}")
    assert heard.frames == FRAMES, heard.said
    assert heard.gate is not None
    assert (heard.gate.refusal, heard.gate.failure, heard.gate.status) == (None, None, 200)
    assert heard.gate.finished == ("m3u8" in name)
    assert all(headers["Host"] == f"127.0.0.1:{server.port}" for _, _, headers in server.asked)
    assert not any("Proxy" in each for _, _, headers in server.asked for each in headers)


@pytest.mark.parametrize(("name", "container"), [("a.flv", "flv"), ("a.ts", "mpegts")])
def test_a_live_http_source_plays(tmp_path: Path, name: str, container: str) -> None:
    """ffmpeg as the server: in chunks, without an end."""
    stream_files(tmp_path)
    port = free_port()
    url = f"http://127.0.0.1:{port}/{name}"
    with publishing(tmp_path / name, url, container, ("-listen", "1")):
        wait_for(lambda: listens(port), "the server listens")
        heard = play(url, frames=10)
    assert heard.frames == 10, heard.said


@pytest.mark.parametrize("name", HTTP)
def test_https_sources_play(secure: Web, proxy: ProxyThread, name: str) -> None:
    heard = play(f"https://{HOST}:{secure.port}/{name}", HOST, proxy=proxy)
    assert heard.frames == FRAMES, heard.said
    assert all(headers["Host"] == f"{HOST}:{secure.port}" for _, _, headers in secure.asked)


def test_https_segments_and_keys_of_an_http_playlist_play(
    server: Web, secure: Web, proxy: ProxyThread
) -> None:
    there = f"https://{HOST}:{secure.port}"
    playlist = server.pages["/locked.m3u8"]
    assert isinstance(playlist, bytes)
    server.pages["/locked.m3u8"] = playlist.replace(
        b'URI="key"', f'URI="{there}/key"'.encode()
    ).replace(b"\nlocked", f"\n{there}/locked".encode())
    heard = play(f"http://{HOST}:{server.port}/locked.m3u8", HOST, proxy=proxy)
    assert heard.frames == FRAMES, heard.said
    assert set(server.paths) == {"/locked.m3u8"}
    assert set(secure.paths) == {"/key", "/locked0.ts", "/locked1.ts", "/locked2.ts"}


@pytest.mark.parametrize("name", ["plain.m3u8", "a.flv"])
def test_redirects_from_http_to_https_are_followed(
    server: Web, secure: Web, proxy: ProxyThread, name: str
) -> None:
    there = f"https://{HOST}:{secure.port}/{name}"
    server.pages[f"/{name}"] = (302, {"Location": there}, b"")
    heard = play(f"http://{HOST}:{server.port}/{name}", HOST, proxy=proxy)
    assert heard.frames == FRAMES, heard.said


def test_a_certificate_for_another_name_is_not_taken(secure: Web, certificate: Path) -> None:
    trust = ssl.create_default_context(cafile=str(certificate))
    other = "other.example"
    with ProxyThread([other], resolve=lambda host, port: ["127.0.0.1"], tls=trust) as proxy:
        heard = play(f"https://{other}:{secure.port}/a.ts", other, proxy=proxy)
    assert heard.frames == 0
    assert secure.asked == []
    assert heard.gate is not None
    assert "certificate" in str(heard.gate.failure)


def test_an_issuer_that_is_not_trusted_is_not_taken(secure: Web) -> None:
    with ProxyThread([HOST], resolve=lambda host, port: ["127.0.0.1"]) as proxy:
        heard = play(f"https://{HOST}:{secure.port}/a.ts", HOST, proxy=proxy)
    assert (heard.frames, secure.asked) == (0, [])


# --- user and password ------------------------------------------------------------------------


BASIC = "Basic YW5uYTpzM2NyZXQ="


def basic(method: str, path: str, headers: dict[str, str]) -> str | None:
    return None if headers.get("Authorization") == BASIC else 'Basic realm="studio"'


def digest(method: str, path: str, headers: dict[str, str]) -> str | None:
    """RFC 7616 with MD5 and a nonce that is new for every minute in the life of this test: one."""
    said = dict(re.findall(r'(\w+)="?([^",]*)', headers.get("Authorization", "")))

    def md5(text: str) -> str:
        return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()

    if said.get("uri") == path:
        middle = f"{said['nonce']}:{said['nc']}:{said['cnonce']}:auth"
        right = md5(f"{md5('anna:studio:s3cret')}:{middle}:{md5(f'{method}:{path}')}")
        if said["response"] == right and said["nonce"] == "abc":
            return None
    return 'Digest realm="studio", nonce="abc", qop="auth", opaque="o"'


@pytest.mark.parametrize("guard", [basic, digest])
def test_the_password_goes_to_the_streams_own_host_alone(
    server: Web, guard: Callable[[str, str, dict[str, str]], str | None]
) -> None:
    """And not to ffmpeg, whose arguments every user of the machine may read."""
    server.guard = guard
    with web() as other:
        other.pages |= server.pages
        other.guard = lambda method, path, headers: headers.get("Authorization")
        playlist = server.pages["/plain.m3u8"]
        assert isinstance(playlist, bytes)
        server.pages["/plain.m3u8"] = playlist.replace(
            b"plain1.ts", f"{other.url}/plain1.ts".encode()
        )
        heard = play(f"http://anna:s3cret@127.0.0.1:{server.port}/plain.m3u8")
    assert heard.frames == FRAMES, heard.said
    words = [headers.get("Authorization") for _, _, headers in server.asked]
    assert words[0] is None  # before it is known what the server wants
    assert all(word and word.startswith(guard.__name__.title()) for word in words[1:])
    assert [headers.get("Authorization") for _, _, headers in other.asked] == [None]
    assert "s3cret" not in " ".join(heard.plan.arguments)


@pytest.mark.parametrize("guard", [basic, digest])
def test_a_wrong_password_is_not_tried_for_ever(
    server: Web, guard: Callable[[str, str, dict[str, str]], str | None]
) -> None:
    server.guard = guard
    heard = play(f"http://anna:wrong@127.0.0.1:{server.port}/a.flv")
    assert heard.frames == 0
    assert heard.gate is not None
    assert (heard.gate.status, heard.gate.refusal, heard.gate.failure) == (401, None, None)
    assert len(server.asked) <= 4


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_password_is_told_by_the_servers_own_status(server: Web, status: int) -> None:
    server.pages["/a.flv"] = (status, {}, b"")
    heard = play(f"http://anna:s3cret@127.0.0.1:{server.port}/a.flv")
    assert (heard.frames, heard.gate and heard.gate.status) == (0, status)
    assert heard.gate is not None
    assert heard.gate.refusal is None
