"""`moderation watch`, as a process, on a stream of a real server."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from command_line import COMMAND, environment

from tests.integration.media import write
from tests.live_servers import LiveServer, publishing

SECRET = "s3cret-4711"


@contextmanager
def watching(home: Path, *words: str, err: Path) -> Iterator[subprocess.Popen[str]]:
    """The command, killed after a minute. err: a file for what it says beside its output."""
    settings = {"MODERATION_BACKEND": "fake", "MODERATION_FETCH_ALLOW": "127.0.0.1"}
    with (
        err.open("w") as file,
        subprocess.Popen(
            [*COMMAND, "watch", *words],
            env=environment(home) | settings,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
        ) as process,
    ):
        late = threading.Timer(60, process.kill)
        late.start()
        try:
            yield process
        finally:
            late.cancel()
            process.kill()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="readers die with their parent on Linux alone")
def test_a_passage_is_told_as_it_comes(live_server: LiveServer, tmp_path: Path) -> None:
    source = (
        "mandelbrot=size=320x240:rate=10,trim=duration=40,format=gray,format=yuv420p,"
        "drawbox=w=iw:h=ih:color=red:t=fill:enable='between(t,2,6)'"
    )
    coder = ("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "10")
    film = write(tmp_path / "a.flv", "-f", "lavfi", "-i", source, *coder)
    url = live_server.rtmp("watched").replace("//", f"//anna:{SECRET}@")
    options = ("--interval", "0.5", "--hold", "1", "--seconds", "15", "--json")
    err = tmp_path / "err"
    with watching(tmp_path / "home", url, *options, "--fail-on", "block", err=err) as process:
        assert process.stdout is not None
        said = process.stdout.readline()  # it may take its time to start: the film waits for it
        with publishing(film, live_server.rtmp("watched")):
            said += process.stdout.read()
        code = process.wait()
    events = [json.loads(line) for line in said.splitlines()]
    kinds = [one["type"] for one in events if one["type"].startswith("alert.")]
    assert kinds == ["alert.opened", "alert.escalated", "alert.closed"]
    states = [one["data"]["state"] for one in events if one["type"] == "stream.state"]
    assert states[:2] == ["connecting", "live"]
    assert code == 1  # a block was asked to be one
    assert SECRET not in said + err.read_text()


def test_an_address_that_may_not_be_opened_is_told_in_one_line(tmp_path: Path) -> None:
    err = tmp_path / "err"
    url = f"rtmp://anna:{SECRET}@10.0.0.1/live/x"
    with watching(tmp_path / "home", url, err=err) as process:
        said, _ = process.communicate()
    told = err.read_text()
    assert (process.returncode, said) == (2, "")
    assert len(told.splitlines()) == 1
    assert "10.0.0.1" in told
    assert SECRET not in told
