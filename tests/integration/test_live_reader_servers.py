"""The reader on nginx, as streams come in the wild: by RTMP, and as HLS through the proxy."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from moderation.live.clip import playable
from moderation.live.clock import steady_utc
from moderation.live.ends import EndReason
from moderation.live.proxy_thread import ProxyThread
from moderation.live.reader import LiveFrame, LiveReader, ReaderOptions
from moderation.live.ring import Ring, RingOptions
from moderation.live.source import plan
from moderation.settings import load_settings
from moderation.types import InputKey
from moderation.video.ffmpeg import program
from tests.integration.live_source import X264, stands_still, until
from tests.integration.media import write
from tests.live_servers import LiveServer, publishing

KEYS = (InputKey(96, 96),)
SETTINGS = load_settings(fetch_allow="127.0.0.1")


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    source = "testsrc=size=320x180:rate=10:duration=20"
    return write(path, "-f", "lavfi", "-i", source, *X264)


@pytest.fixture
def ring(tmp_path: Path) -> Ring:
    folder = tmp_path / "ring"
    folder.mkdir()
    return Ring(folder, RingOptions(part_s=1.0, lead_s=1.0))


@contextmanager
def read(url: str, ring: Ring, proxy: ProxyThread | None = None) -> Iterator[LiveReader]:
    # Whatever ends sooner was not ended by waiting.
    source = plan(url, SETTINGS, timeout_s=60)
    gate = proxy.admit(source) if proxy is not None else None
    words = source.input_arguments(gate.url if gate is not None else None)
    options = ReaderOptions(program(), interval_s=0.5)
    with LiveReader(words, KEYS, ring, options, now=steady_utc()) as reader:
        yield reader


def captured_apart(frames: list[LiveFrame]) -> None:
    """Capture times follow the time stamps, not the arrivals: a frame that comes sooner than those
    before moves them, one that is held up does not."""
    times = [frame.captured_s for frame in frames]
    assert times == sorted(set(times))
    assert max(np.diff([frame.captured_s - frame.stamp_s for frame in frames])) < 0.01


def test_rtmp_frames_come_and_a_killed_server_is_told_at_once(
    live_server: LiveServer, film: Path, ring: Ring
) -> None:
    url = live_server.rtmp("killed")
    with publishing(film, url), read(url, ring) as reader:
        frames = iter(reader)
        found = list(itertools.islice(frames, 8))
        live_server.stop()
        killed = time.monotonic()
        list(frames)
        assert time.monotonic() - killed < 25
    assert reader.end is not None
    assert reader.end.reason is EndReason.BROKEN
    assert np.diff([frame.stamp_s for frame in found[4:]]) == pytest.approx(0.5, abs=0.25)
    captured_apart(found)
    live_server.start()
    with publishing(film, url), read(url, ring) as reader:
        assert len(list(itertools.islice(reader, 2))) == 2


def test_an_rtmp_publisher_that_leaves_is_only_silence(
    live_server: LiveServer, film: Path, ring: Ring
) -> None:
    """nginx keeps its players: what ends this is the watchdog."""
    url = live_server.rtmp("left")
    seen: list[LiveFrame] = []
    with publishing(film, url) as publisher, read(url, ring) as reader:
        thread = threading.Thread(target=lambda: seen.extend(reader))
        thread.start()
        until(lambda: len(seen) >= 4, "frames came")
        publisher.kill()
        publisher.wait()
        stands_still(lambda: len(seen), 2.0, "no more frames come")
        assert thread.is_alive()
        reader.kill()
        thread.join(10)
        assert not thread.is_alive()


def test_hls_is_read_through_the_proxy_and_gives_a_clip(
    live_server: LiveServer, film: Path, ring: Ring, tmp_path: Path
) -> None:
    with publishing(film, live_server.rtmp("hls")), ProxyThread(SETTINGS.fetch_allow) as proxy:
        until(lambda: live_server.segments("hls") >= 3, "segments are there")
        with read(live_server.hls("hls"), ring, proxy) as reader:
            found = list(itertools.islice(reader, 12))
            clip = ring.freeze(found[8].captured_s, tmp_path / "clip.ts")
    # Segments come whole, one a second; the frames in them were captured apart.
    assert np.diff([frame.stamp_s for frame in found[4:]]) == pytest.approx(0.5, abs=0.2)
    captured_apart(found)
    assert clip.begun_s <= found[8].captured_s - 1.0
    playable(clip, program(), tmp_path / "clip.mp4")
    assert (tmp_path / "clip.mp4").stat().st_size > 1000


def test_hls_that_is_not_there_is_told(live_server: LiveServer, ring: Ring) -> None:
    url = live_server.hls("none")
    with ProxyThread(SETTINGS.fetch_allow) as proxy, read(url, ring, proxy) as reader:
        assert list(reader) == []
    assert reader.end is not None
    assert reader.end.reason is EndReason.MISSING
