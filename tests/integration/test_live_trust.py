"""An ffmpeg that would leave the checked address is found out before it is used."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from moderation.errors import ConfigError, ServiceError
from moderation.live.source import plan
from moderation.live.trust import check, follows_redirects
from moderation.settings import load_settings
from moderation.video.ffmpeg import program

FOLLOWS = """#!{python}
import re, socket, sys

url = sys.argv[sys.argv.index("-i") + 1]
timeout = 8
while url:
    host, port = re.match(r"rtsp://([^:/]+):(\\d+)/", url).groups()
    with socket.create_connection((host, int(port)), timeout=timeout) as connection:
        connection.sendall(b"OPTIONS " + url.encode() + b" RTSP/1.0\\r\\nCSeq: 1\\r\\n\\r\\n")
        try:
            found = re.search(rb"Location: (\\S+)", connection.recv(4096))
        except TimeoutError:
            found = None
    url = found[1].decode() if found else None
    timeout = 1  # nobody answers there
sys.exit(1)
"""
"""What ffmpeg 7.0 does, seen with the one of imageio-ffmpeg 0.6.0."""


def rtsp() -> object:
    return plan("rtsp://1.1.1.1/x", load_settings(), resolve=lambda host, port: [host])


def test_the_bundled_ffmpeg_stays() -> None:
    assert follows_redirects(program()) is False
    check(rtsp(), program())  # type: ignore[arg-type]


def test_one_that_follows_is_not_used_for_rtsp(tmp_path: Path) -> None:
    path = tmp_path / "ffmpeg"
    path.write_text(FOLLOWS.format(python=sys.executable))
    path.chmod(0o755)
    assert follows_redirects(str(path)) is True
    with pytest.raises(ConfigError, match="redirects"):
        check(rtsp(), str(path))  # type: ignore[arg-type]
    settings = load_settings()
    check(plan("srt://1.1.1.1:9000", settings, resolve=lambda host, port: [host]), str(path))


def test_one_that_reads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moderation.live.trust.TRY_S", 1.0)
    path = tmp_path / "ffmpeg"
    path.write_text("#!/bin/sh\necho no such protocol >&2\nexit 1\n")
    path.chmod(0o755)
    with pytest.raises(ServiceError, match="no such protocol"):
        follows_redirects(str(path))
