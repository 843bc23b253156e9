"""A source's plan, the proxy and the reader together, against a real server."""

from __future__ import annotations

from pathlib import Path

import pytest

from moderation.live.clock import steady_utc
from moderation.live.ends import EndReason
from moderation.live.proxy_thread import ProxyThread
from moderation.live.reader import LiveReader, ReaderOptions
from moderation.live.ring import Ring, RingOptions
from moderation.live.source import plan
from moderation.live.told import ended, explained
from moderation.settings import load_settings
from moderation.types import InputKey
from moderation.video.ffmpeg import program
from tests.fakes.playing import stream_files
from tests.fakes.web import web
from tests.live_servers import LiveServer, publishing
from tests.servers import wait_for

KEYS = (InputKey(64, 48),)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("streams")
    stream_files(made)
    return made


def read(url: str, ring: Path, frames: int) -> tuple[int, EndReason | None, str]:
    """Frames up to `frames`; why it ended before, as a reason and a sentence."""
    ring.mkdir(exist_ok=True)
    source = plan(url, load_settings(fetch_allow="127.0.0.1"), timeout_s=20)
    with ProxyThread(["127.0.0.1"]) as proxy:
        gate = proxy.admit(source) if source.proxied else None
        words = source.input_arguments(gate.url if gate else None)
        options = ReaderOptions(program=program(), interval_s=0.2)
        parts = Ring(ring, RingOptions())
        with LiveReader(words, KEYS, parts, options, now=steady_utc()) as reader:
            count = 0
            for _ in reader:
                count += 1
                if count == frames:
                    return count, None, ""
        assert reader.end is not None
        reason = ended(reader.end.reason, gate, frames=count)
        return count, reason, explained(reason, gate)


def test_a_published_stream_is_read_by_rtmp_and_hls(
    live_server: LiveServer, folder: Path, tmp_path: Path
) -> None:
    with publishing(folder / "a.flv", live_server.rtmp("together")):
        assert read(live_server.rtmp("together"), tmp_path / "rtmp", 5) == (5, None, "")
        wait_for(lambda: live_server.segments("together") >= 2, "HLS is there")
        assert read(live_server.hls("together"), tmp_path / "hls", 5) == (5, None, "")


def test_why_an_attempt_failed_is_told(live_server: LiveServer, tmp_path: Path) -> None:
    missing = read(live_server.hls("nothing"), tmp_path, 5)
    assert missing[:2] == (0, EndReason.MISSING)
    with web() as server:
        server.pages["/a.flv"] = (401, {"WWW-Authenticate": 'Basic realm="x"'}, b"")
        wrong = read(f"{server.url.replace('//', '//anna:wr0ng@')}/a.flv", tmp_path, 5)
        assert wrong[:2] == (0, EndReason.AUTH)
        server.pages["/a.flv"] = (302, {"Location": "http://169.254.169.254/x"}, b"")
        hostile = read(f"{server.url}/a.flv", tmp_path, 5)
    assert hostile[:2] == (0, EndReason.FORBIDDEN)
    assert "169.254.169.254" in hostile[2]


def test_the_end_of_a_playlist_is_told(folder: Path, tmp_path: Path) -> None:
    with web() as server:
        server.pages |= {f"/{path.name}": path.read_bytes() for path in folder.iterdir()}
        count, reason, _ = read(f"{server.url}/plain.m3u8", tmp_path, 99)
    assert count > 5
    assert reason is EndReason.FINISHED
