"""Live sources that ffmpeg opens itself, by an address that was checked: RTSP, SRT, UDP, RTMP."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.fakes.playing import play, stream_files
from tests.fakes.rtsp import Recording, record, rtsp
from tests.fakes.web import trap
from tests.integration.live_source import is_bound
from tests.live_servers import LiveServer, publishing
from tests.servers import free_port, wait_for

HOST = "studio.example"
"""Known to the check alone: ffmpeg could not resolve it."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("streams")
    stream_files(made)
    return made


@pytest.fixture(scope="module")
def recording(folder: Path) -> Recording:
    return record(folder / "a.ts")


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_rtsp_plays(recording: Recording, transport: str) -> None:
    with rtsp(recording, "anna:s3cret") as server:
        url = f"rtsp://anna:s3cret@{HOST}:{server.port}/cam"
        heard = play(url, HOST, transport=transport, frames=10)  # type: ignore[arg-type]
    assert heard.frames == 10, heard.said
    assert f"SETUP rtsp://127.0.0.1:{server.port}/cam/track RTSP/1.0" in server.asked


def test_rtsp_with_a_wrong_password(recording: Recording) -> None:
    with rtsp(recording, "anna:s3cret") as server:
        heard = play(f"rtsp://anna:wr0ng-one@{HOST}:{server.port}/cam?key=t0ken-here", HOST)
    assert heard.frames == 0
    assert "401 Unauthorized" in heard.said
    for secret in ("wr0ng-one", "t0ken-here"):
        assert secret in heard.raw  # ffmpeg does say it
        assert secret not in heard.said


@pytest.mark.parametrize("secret", ["", "?streamid=%23!::r=live/x&passphrase=0123456789abc"])
def test_srt_plays(folder: Path, secret: str) -> None:
    port = free_port()
    phrase = "&passphrase=0123456789abc" if secret else ""
    listen = f"srt://127.0.0.1:{port}?mode=listener{phrase}"
    with publishing(folder / "a.ts", listen, "mpegts"):
        wait_for(lambda: is_bound(port), "the sender listens")
        heard = play(f"srt://{HOST}:{port}{secret}", HOST, frames=10)
    assert heard.frames == 10, heard.said


def test_udp_plays(folder: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with publishing(folder / "a.ts", f"udp://127.0.0.1:{port}?pkt_size=1316", "mpegts"):
        heard = play(f"udp://127.0.0.1:{port}", frames=10)
    assert heard.frames == 10, heard.said


def test_rtmp_and_hls_of_a_real_server_play(live_server: LiveServer, folder: Path) -> None:
    with publishing(folder / "a.flv", live_server.rtmp("plays")):
        heard = play(live_server.rtmp("plays", HOST), HOST, frames=10)
        assert heard.frames == 10, heard.said
        wait_for(lambda: live_server.segments("plays") >= 2, "HLS is there")
        heard = play(live_server.hls("plays", HOST), HOST, frames=10)
        assert heard.frames == 10, heard.said


def test_rtmp_connects_to_the_checked_address() -> None:
    with trap() as server:
        heard = play(f"rtmp://anna:s3cret-word@{HOST}:{server.port}/live/x?key=t0ken-here", HOST)
    assert (heard.frames, len(server.heard)) == (0, 1)
    assert server.heard[0].startswith(b"\x03")  # the first byte of RTMP's handshake
    assert "s3cret-word" in heard.raw
    assert "s3cret-word" not in heard.said
    assert "t0ken-here" not in heard.said


def test_a_server_that_says_nothing_is_left() -> None:
    """By ffmpeg's own time limit."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        heard = play(f"rtsp://{HOST}:{port}/cam", HOST, timeout_s=5)
    assert heard.frames == 0
