"""Streams made to reach what they may not: nothing is connected to, nothing is told.

The server's name is allowed, its address is not: what a playlist names may be opened only if it is
the server itself. Everything else on this machine is a trap.
"""

from __future__ import annotations

import gzip
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from moderation.errors import FetchError
from moderation.live.proxy_thread import ProxyThread
from moderation.live.source import plan
from moderation.settings import load_settings
from moderation.video.ffmpeg import program
from tests.fakes.playing import FRAMES, Heard, play, stream_files
from tests.fakes.web import Trap, Web, trap, web

HOST = "hostile.example"


def resolve(host: str, port: int) -> list[str]:
    """The hostile host's name, and addresses as a connection would have them."""
    if host in (HOST, "inside.example"):
        return ["127.0.0.1"]
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return stream_files(tmp_path_factory.mktemp("streams"))


@pytest.fixture
def server(media: dict[str, bytes]) -> Iterator[Web]:
    with web() as made:
        made.pages |= media
        yield made


@pytest.fixture
def inside() -> Iterator[Trap]:
    with trap() as made:
        yield made


@pytest.fixture
def secret(media: dict[str, bytes], tmp_path: Path) -> Path:
    """A file of this machine that would play."""
    path = tmp_path / "a.ts"
    path.write_bytes(media["/a.ts"])
    (tmp_path / "a.m3u8").write_bytes(segment(path.as_uri()))
    return path


def attack(server: Web, name: str) -> Heard:
    return play(f"http://{HOST}:{server.port}/{name}", HOST, resolve=resolve)


def playlist(*lines: str) -> bytes:
    head = ("#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-TARGETDURATION:2", "#EXT-X-MEDIA-SEQUENCE:0")
    return "\n".join((*head, *lines, "#EXT-X-ENDLIST", "")).encode()


def master(*lines: str) -> bytes:
    return "\n".join(("#EXTM3U", *lines, "")).replace("a.ts", "a.m3u8").encode()


def segment(url: str) -> bytes:
    return playlist("#EXTINF:2,", url)


PLACES: dict[str, Callable[[str], bytes]] = {
    "segment": segment,
    "key": lambda url: playlist(f'#EXT-X-KEY:METHOD=AES-128,URI="{url}"', "#EXTINF:2,", "a.ts"),
    "map": lambda url: playlist(f'#EXT-X-MAP:URI="{url}"', "#EXTINF:2,", "parts0.m4s"),
    "range": lambda url: playlist("#EXTINF:2,", "#EXT-X-BYTERANGE:100@0", url),
    "variant": lambda url: master("#EXT-X-STREAM-INF:BANDWIDTH=1", url),
    "rendition": lambda url: master(
        f'#EXT-X-MEDIA:TYPE=VIDEO,GROUP-ID="v",NAME="n",DEFAULT=YES,URI="{url}"',
        '#EXT-X-STREAM-INF:BANDWIDTH=1,VIDEO="v"',
        "gone.m3u8",
    ),
}
"""Where a playlist names addresses."""

TARGETS = {
    "loopback": "http://127.0.0.1:{port}/a.ts",
    "loopback by another name": "http://localhost:{port}/a.ts",
    "by a name of theirs": "http://inside.example:{port}/a.ts",
    "as a number": "http://2130706433:{port}/a.ts",
    "mapped": "http://[::ffff:127.0.0.1]:{port}/a.ts",
    "behind a user name": "http://" + HOST + "@127.0.0.1:{port}/a.ts",
    "without a scheme": "//127.0.0.1:{port}/a.ts",
    "https": "https://127.0.0.1:{port}/a.ts",
    "tunnel": "httpproxy://127.0.0.1:{port}/a.ts",
    "tcp": "tcp://127.0.0.1:{port}?x=a.ts",
    "tls": "tls://127.0.0.1:{port}/a.ts",
    "encrypted": "crypto+http://127.0.0.1:{port}/a.ts",
    "encrypted, old": "crypto:http://127.0.0.1:{port}/a.ts",
    "rtmp": "rtmp://127.0.0.1:{port}/app/a.ts",
    "gopher": "gopher://127.0.0.1:{port}/a.ts",
    "ftp": "ftp://127.0.0.1:{port}/a.ts",
    "joined": "concat:http://127.0.0.1:{port}/a.ts|http://127.0.0.1:{port}/b.ts",
}
NOT_HERE = {
    "metadata": "http://169.254.169.254/latest/meta-data/a.ts",
    "metadata v6": "http://[fd00:ec2::254]/a.ts",
    "loopback v6": "http://[::1]:9/a.ts",
    "zero": "http://0.0.0.0:9/a.ts",
}


def test_the_trap_hears_what_is_allowed(server: Web, inside: Trap) -> None:
    """The control: the same playlist, with the address allowed."""
    server.pages["/x.m3u8"] = segment(f"http://127.0.0.1:{inside.port}/a.ts")
    play(f"http://{HOST}:{server.port}/x.m3u8", f"{HOST},127.0.0.1", resolve=resolve)
    assert inside.heard[0].startswith(b"GET /a.ts ")


def test_ffmpeg_alone_would_open_a_tunnel_to_anywhere(server: Web, inside: Trap) -> None:
    """Why `httpproxy`, and so TLS through a proxy, is not on ffmpeg's whitelist."""
    server.pages["/x.m3u8"] = segment(f"httpproxy://127.0.0.1:{inside.port}/a.ts")
    allowed = ("-protocol_whitelist", "http,https,tcp,tls,httpproxy,crypto")
    subprocess.run(
        [program(), "-nostdin", *allowed, "-i", f"{server.url}/x.m3u8", "-f", "null", "-"],
        capture_output=True,
        env={},
        timeout=30,
        check=False,
    )
    assert inside.heard[0].startswith(b"CONNECT ")


# Every target once, and in every place one of each way to be refused.
WAYS = ("loopback", "https", "tunnel", "encrypted")


@pytest.mark.parametrize(
    ("place", "target"),
    [
        (place, target)
        for place in PLACES
        for target in TARGETS
        if place == "segment" or target in WAYS
    ],
)
def test_nothing_inside_is_reached(server: Web, inside: Trap, place: str, target: str) -> None:
    server.pages["/x.m3u8"] = PLACES[place](TARGETS[target].format(port=inside.port))
    heard = attack(server, "x.m3u8")
    assert inside.heard == []
    assert heard.gate is not None
    assert heard.gate.refusal, heard.said
    assert heard.frames == 0


@pytest.mark.parametrize("target", NOT_HERE)
def test_addresses_that_are_not_public_are_refused(server: Web, target: str) -> None:
    server.pages["/x.m3u8"] = segment(NOT_HERE[target])
    heard = attack(server, "x.m3u8")
    assert heard.frames == 0
    assert heard.gate is not None
    assert re.search("public|another service", str(heard.gate.refusal)), heard.gate.refusal


def test_loopback_of_version_6_is_not_reached(server: Web) -> None:
    try:
        with trap("::1") as inside:
            server.pages["/x.m3u8"] = segment(f"http://[::1]:{inside.port}/a.ts")
            heard = attack(server, "x.m3u8")
            assert (heard.frames, inside.heard) == (0, [])
    except OSError as error:
        pytest.skip(f"no IPv6 on loopback: {error}")


@pytest.mark.parametrize("place", ["segment", "map", "variant"])
@pytest.mark.parametrize(
    "form",
    [
        "file://{}",
        "file:{}",
        "{}",
        "subfile,,start,0,end,0,,:{}",
        "async:{}",
        "FILE://{}",
        "crypto+file:{}",
    ],
)
def test_no_file_is_read(server: Web, secret: Path, place: str, form: str) -> None:
    server.pages["/x.m3u8"] = PLACES[place](form.format(secret))
    heard = attack(server, "x.m3u8")
    assert heard.frames == 0
    # "{}" is a path on their own server, and that is where it is looked for.
    assert not re.search(rf"Opening '(?:crypto\+)?(?:file:|/){secret.name}", heard.raw)
    assert heard.gate is not None
    assert heard.gate.refusal or heard.gate.status == 404


@pytest.mark.parametrize(
    ("name", "target"),
    [("x.m3u8", target) for target in (*TARGETS, *NOT_HERE)]
    + [(name, target) for name in ("x.flv", "x.ts") for target in WAYS],
)
def test_redirects_reach_nothing(server: Web, inside: Trap, name: str, target: str) -> None:
    location = (TARGETS | NOT_HERE)[target].format(port=inside.port)
    server.pages[f"/{name}"] = (302, {"Location": location}, b"")
    heard = attack(server, name)
    assert (heard.frames, inside.heard) == (0, [])
    assert heard.gate is not None
    assert heard.gate.refusal, heard.said


@pytest.mark.parametrize("which", ["/plain1.ts", "/key"])
def test_a_redirect_of_a_segment_or_key_reaches_nothing(
    server: Web, inside: Trap, which: str
) -> None:
    location = f"http://127.0.0.1:{inside.port}/a.ts"
    server.pages[which] = (307, {"Location": location}, b"")
    heard = attack(server, "locked.m3u8" if which == "/key" else "plain.m3u8")
    assert inside.heard == []
    assert heard.frames < FRAMES
    assert heard.gate is not None
    assert heard.gate.refusal


def test_a_playlist_in_place_of_a_segment_opens_nothing(server: Web, inside: Trap) -> None:
    """A playlist inside a playlist is opened without the options of the outer one."""
    nested = segment(f"http://127.0.0.1:{inside.port}/a.ts")
    kind = {"Content-Type": "application/vnd.apple.mpegurl"}
    server.pages |= {"/n.m3u8": (200, kind, nested), "/n.ts": (200, kind, nested)}
    for name in ("n.m3u8", "n.ts"):
        server.pages["/x.m3u8"] = segment(name)
        heard = attack(server, "x.m3u8")
        assert (heard.frames, inside.heard) == (0, [])


@pytest.mark.parametrize(
    "body",
    [
        "ffconcat version 1.0\nfile http://127.0.0.1:{port}/a.ts\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n",
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static">'
        "<Period><AdaptationSet><BaseURL>http://127.0.0.1:{port}/</BaseURL></AdaptationSet>"
        "</Period></MPD>",
    ],
)
@pytest.mark.parametrize("name", ["x.mpd", "x.ffconcat", "inner"])
def test_other_formats_that_name_addresses_are_not_read(
    server: Web, inside: Trap, body: str, name: str
) -> None:
    if name == "inner":
        server.pages["/inner.ts"] = body.format(port=inside.port).encode()
        server.pages["/x.m3u8"] = segment("inner.ts")
        name = "x.m3u8"
    else:
        server.pages[f"/{name}"] = body.format(port=inside.port).encode()
    heard = attack(server, name)
    assert (heard.frames, inside.heard) == (0, [])


def test_a_compressed_playlist_is_refused(server: Web, inside: Trap) -> None:
    packed = gzip.compress(segment(f"http://127.0.0.1:{inside.port}/a.ts"))
    server.pages["/x.m3u8"] = (200, {"Content-Encoding": "gzip"}, packed)
    heard = attack(server, "x.m3u8")
    assert (heard.frames, inside.heard) == (0, [])
    assert heard.gate is not None
    assert "compressed" in str(heard.gate.failure)


def test_a_name_that_moves_inside_after_the_check_gains_nothing(server: Web, inside: Trap) -> None:
    """Every request resolves once and connects to what was checked."""
    answers = iter([["127.0.0.1"]])

    def moving(host: str, port: int) -> list[str]:
        return next(answers, ["127.0.0.2"])

    with ProxyThread(["127.0.0.1"], resolve=moving) as proxy:
        heard = play(f"http://{HOST}:{server.port}/a.ts", HOST, proxy=proxy, resolve=resolve)
    assert heard.frames == FRAMES
    with ProxyThread(["127.0.0.1"], resolve=moving) as proxy:
        heard = play(f"http://{HOST}:{server.port}/a.ts", HOST, proxy=proxy, resolve=resolve)
    assert heard.frames == 0
    assert heard.gate is not None
    assert "public" in str(heard.gate.refusal)


@pytest.mark.parametrize("scheme", ["rtsp", "rtsps", "tcp", "http", "udp", "rtp", ""])
@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_redirects_of_rtsp_reach_nothing(inside: Trap, scheme: str, transport: str) -> None:
    location = f"{scheme}{':' if scheme else ''}//127.0.0.1:{inside.port}/x"
    answer = f"RTSP/1.0 302 Moved\r\nCSeq: 1\r\nLocation: {location}\r\n\r\n".encode()
    asked: list[bytes] = []

    def serve() -> None:
        peer, _ = listener.accept()
        with peer:
            peer.settimeout(10)
            while said := peer.recv(4096):
                asked.append(said)
                peer.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        url = f"rtsp://{HOST}:{listener.getsockname()[1]}/x"
        heard = play(url, HOST, resolve=resolve, transport=transport)  # type: ignore[arg-type]
        thread.join()
    assert asked[0].startswith(b"OPTIONS rtsp://127.0.0.1:")
    assert (heard.frames, inside.heard) == (0, [])
    assert re.search("Redirecting|not on whitelist", heard.raw)


@pytest.mark.parametrize(
    "url",
    [
        "rtmp://127.0.0.1/app/x",
        "rtsp://169.254.169.254/x",
        "srt://[::1]:9000",
        "udp://0.0.0.0:5000",
        "udp://239.1.1.1:5000",
        "udp://8.8.8.8:5000",
        "http://10.0.0.1/x.m3u8",
        "https://localhost/x.m3u8",
        "rtsp://8.8.8.8:22/x",
        "rtmp://8.8.8.8:25/app/x",
        "srt://8.8.8.8:53",
    ],
)
def test_sources_inside_are_refused_before_anything_is_started(url: str) -> None:
    with pytest.raises(FetchError) as caught:
        plan(url, load_settings())
    assert caught.value.code == "fetch_forbidden"
