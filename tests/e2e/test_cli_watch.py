"""`moderation watch`, as a process, on a stream of a real server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import COMMAND, environment

from tests.integration.media import write
from tests.live_servers import LiveServer, publishing

SECRET = "s3cret-4711"


def watch(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    settings = {"MODERATION_BACKEND": "fake", "MODERATION_FETCH_ALLOW": "127.0.0.1"}
    return subprocess.run(
        [*COMMAND, "watch", *words],
        env=environment(home) | settings,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="readers die with their parent on Linux alone")
def test_a_passage_is_told_as_it_comes(live_server: LiveServer, tmp_path: Path) -> None:
    source = (
        "mandelbrot=size=320x240:rate=10,trim=duration=40,format=gray,format=yuv420p,"
        "drawbox=w=iw:h=ih:color=red:t=fill:enable='between(t,3,8)'"
    )
    coder = ("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "10")
    film = write(tmp_path / "a.flv", "-f", "lavfi", "-i", source, *coder)
    url = live_server.rtmp("watched").replace("//", f"//anna:{SECRET}@")
    options = ("--interval", "0.5", "--hold", "1", "--seconds", "15", "--json")
    with publishing(film, live_server.rtmp("watched")):
        done = watch(tmp_path / "home", url, *options, "--fail-on", "block")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    kinds = [one["type"] for one in events if one["type"].startswith("alert.")]
    assert kinds == ["alert.opened", "alert.escalated", "alert.closed"]
    states = [one["data"]["state"] for one in events if one["type"] == "stream.state"]
    assert states[:2] == ["connecting", "live"]
    assert done.returncode == 1  # a block was asked to be one
    assert SECRET not in done.stdout + done.stderr


def test_an_address_that_may_not_be_opened_is_told_in_one_line(tmp_path: Path) -> None:
    done = watch(tmp_path / "home", f"rtmp://anna:{SECRET}@10.0.0.1/live/x")
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "10.0.0.1" in done.stderr
    assert SECRET not in done.stderr
