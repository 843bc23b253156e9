"""A live stream through `moderation serve`: published by RTMP, alerts by SSE and by callback."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from media import write
from PIL import Image
from served import KEY, Receiver, Served, descendants, free_port, until

from moderation.live.newest import NewestStore
from moderation.settings import load_settings
from moderation.video.ffmpeg import program
from tests.live_servers import LiveServer, publishing, rtsp_server
from tests.servers import Missing

pytestmark = pytest.mark.slow

AUTH = {"Authorization": f"Bearer {KEY}"}
PORN = "porn.explicit"
CALM_S, RED_S = 8, 6
SOON_S = 3.0
LEASE_S = 6.0


class Events:
    """The events of a stream until it ended, read as they come, each with the time of its
    arrival."""

    def __init__(self, url: str) -> None:
        self.came: list[tuple[float, dict[str, Any]]] = []
        self._over = threading.Event()
        self._url = url
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def of(self, kind: str) -> list[tuple[float, dict[str, Any]]]:
        return [(at, told) for at, told in self.came if told["type"] == kind]

    def states(self) -> list[str]:
        return [told["data"]["state"] for _, told in self.of("stream.state")]

    def close(self) -> None:
        self._over.set()
        self._thread.join(30)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        headers = AUTH | {"Last-Event-ID": "0"}
        with httpx.stream("GET", self._url, headers=headers, timeout=60) as response:
            for line in response.iter_lines():
                if line.startswith("data: "):
                    self.came.append((time.time(), json.loads(line.removeprefix("data: "))))
                if self._over.is_set() or "ended" in self.states():
                    return


class Watched:
    """`serve`, and its streams."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self._client = httpx.Client(base_url=served.url, headers=AUTH, timeout=30)

    def watch(self, url: str, **options: Any) -> str:
        body = {"url": url, "interval_ms": 500, "hold_s": 2} | options
        answer = self._client.post("/v1/streams", json=body)
        assert answer.status_code == 201, answer.text
        made: str = answer.json()["id"]
        return made

    def stream(self, stream_id: str) -> dict[str, Any]:
        answer = self._client.get(f"/v1/streams/{stream_id}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def newest(self, stream_id: str) -> float:
        """When its newest frame was captured, UTC; 0: it has none."""
        age_s = self.stream(stream_id)["last_frame_age_s"]
        return 0.0 if age_s is None else time.time() - float(age_s)

    def events(self, stream_id: str) -> Events:
        # The tail ends by itself: a reader that is left behind would hold up the end of the test.
        return Events(f"{self.served.url}/v1/streams/{stream_id}/events?seconds=120")

    def delete(self, stream_id: str) -> None:
        assert self._client.delete(f"/v1/streams/{stream_id}").status_code in (200, 204)

    def alerts(self, stream_id: str) -> list[dict[str, Any]]:
        answer = self._client.get(f"/v1/streams/{stream_id}/alerts")
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["alerts"]
        return found

    def content(self, path: str) -> bytes:
        answer = self._client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.content

    def get(self, path: str) -> dict[str, Any]:
        answer = self._client.get(path)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def metric(self, name: str) -> float:
        """Over all supervisors."""
        lines = self._client.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(f"{name}{{"))

    def left(self) -> list[str]:
        """Folders of readers that are there."""
        return [path.name for path in (self.served.home / "streams").glob("*/stream*")]

    def readers(self) -> set[int]:
        """Processes below the live worker."""
        pid = self.served.pid_of("live")
        return set() if pid is None else descendants(pid)

    def close(self) -> None:
        self._client.close()


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    with tempfile.TemporaryDirectory(prefix="ml") as folder:
        served = Served(Path(folder) / "home", fetch_enabled="true")
        try:
            served.start()
            watched = Watched(served)
            yield watched
            watched.close()
            assert served.stop() == 0
            assert watched.left() == []
        finally:
            served.destroy()


def red(path: Path, *, calm_s: int, red_s: int, then_s: int) -> Path:
    """A moving grey picture, that is red for a while."""
    source = (
        f"mandelbrot=size=320x240:rate=10,trim=duration={calm_s + red_s + then_s},format=gray,"
        "format=yuv420p,drawbox=w=iw:h=ih:color=red:t=fill:"
        f"enable='between(t,{calm_s},{calm_s + red_s})'"
    )
    coder = ("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "10")
    return write(path, "-f", "lavfi", "-i", source, *coder)


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@dataclass
class Passage:
    """One source that shows the passage, and what is told of it."""

    stream_id: str
    events: Events
    receiver: Receiver

    def closed(self) -> bool:
        return bool(self.events.of("alert.closed"))

    def called_back(self) -> bool:
        return len(told(self.receiver)) >= 3

    def over(self) -> bool:
        return self.events.states()[-1] == "ended"


@contextmanager
def played_by_rtsp(film: Path) -> Iterator[dict[str, str]]:
    """The URL; none where GStreamer is missing, which `test_gstreamer_plays_rtsp` tells."""
    with ExitStack() as stack:
        try:
            urls = {"rtsp": stack.enter_context(rtsp_server(film))}
        except Missing:
            urls = {}
        yield urls


def test_gstreamer_plays_rtsp(tmp_path: Path) -> None:
    film = red(tmp_path / "a.mp4", calm_s=1, red_s=1, then_s=1)
    try:
        with rtsp_server(film) as url:
            words = ("-rtsp_transport", "tcp", "-i", url, "-frames:v", "5", "-f", "null", "-")
            done = subprocess.run([program(), "-v", "error", *words], check=False, timeout=30)
            assert done.returncode == 0
    except Missing as reason:
        pytest.skip(str(reason))


def has_clip(watched: Watched, passage: Passage) -> bool:
    return bool(watched.alerts(passage.stream_id)[0]["clip"])


@pytest.fixture
def listening(watched: Watched) -> Iterator[Callable[[str], Passage]]:
    """Watches a source, with its events read and its callbacks received until the test ends."""
    secret = watched.served.home / "webhook-secret"
    with ExitStack() as stack:

        def watch(url: str) -> Passage:
            receiver = Receiver(lambda: secret.read_text().strip())
            stack.callback(receiver.close)
            stream_id = watched.watch(url, interval_ms=1000, callback_url=receiver.url)
            events = watched.events(stream_id)
            stack.callback(events.close)
            return Passage(stream_id, events, receiver)

        yield watch


def test_a_passage_is_one_alert_within_seconds_by_every_protocol(
    watched: Watched,
    live_server: LiveServer,
    listening: Callable[[str], Passage],
    tmp_path: Path,
) -> None:
    """RTMP and HLS of nginx, RTSP of GStreamer's server, FLV over HTTP and SRT of a sender that
    listens: all at once."""
    film = red(tmp_path / "a.flv", calm_s=CALM_S, red_s=RED_S, then_s=60)
    whole = red(tmp_path / "a.mp4", calm_s=CALM_S, red_s=RED_S, then_s=60)
    flv, srt = (f"{way}://127.0.0.1:{free_port()}" for way in ("http", "srt"))
    counted = watched.metric("moderation_live_alert_seconds_count")
    waited_s = watched.metric("moderation_live_alert_seconds_sum")
    with (
        publishing(film, flv, "flv", ("-listen", "1")),
        publishing(film, f"{srt}?mode=listener", "mpegts"),
        played_by_rtsp(whole) as rtsp,
        publishing(film, live_server.rtmp("passage")),
    ):
        begun = time.time()  # of the last one
        passages = {
            "rtmp": listening(live_server.rtmp("passage")),
            "hls": listening(live_server.hls("passage")),
            "flv": listening(flv),
            "srt": listening(srt),
        }
        passages |= {name: listening(url) for name, url in rtsp.items()}
        many = len(passages)
        for name, passage in passages.items():
            until(passage.closed, 60, f"{name}: closed\n{watched.served.tail()}")
            one_alert(passage)
        newest_is_on_the_wall(watched, passages["rtmp"].stream_id)
        # When the film began is known of this one alone: the others start it, or are behind it.
        opened = passages["rtmp"].events.of("alert.opened")[0][1]["data"]
        assert abs(moment(opened["start"]) - (begun + CALM_S)) < 4
        for name, passage in passages.items():
            until(partial(has_clip, watched, passage), 60, f"{name}: the alert has its clip")
            seen = watched.stream(passage.stream_id)
            assert seen["state"] == "live"
            assert seen["frames_seen"] > 10
        until(
            lambda: watched.metric("moderation_live_alert_seconds_count") == counted + many,
            10,
            "counted",
        )
        assert watched.metric("moderation_live_alert_seconds_sum") - waited_s < many * SOON_S
    for passage in passages.values():
        until(passage.called_back, 60, "callbacks")
        assert told(passage.receiver) == ["alert.opened", "alert.escalated", "alert.closed"]
        assert passage.receiver.problems == []
        the_clip_plays(watched, passage.stream_id, tmp_path)
        people_find_it(watched, passage.stream_id)
        watched.delete(passage.stream_id)
    until(lambda: not watched.readers() and not watched.left(), 60, "nothing is left of them")
    for passage in passages.values():
        until(passage.over, 30, "it ended")


def one_alert(passage: Passage) -> None:
    """Opened in time, and closed once, with the passage's length."""
    events = passage.events
    opened_at, opened = events.of("alert.opened")[0]
    closed = events.of("alert.closed")[0][1]
    assert [len(events.of(f"alert.{kind}")) for kind in ("opened", "closed")] == [1, 1]
    assert opened["data"]["label"] == PORN
    assert closed["data"]["alert_id"] == opened["data"]["alert_id"]
    assert opened_at - moment(opened["data"]["captured"]) < SOON_S
    length_s = moment(closed["data"]["end"]) - moment(closed["data"]["start"])
    assert abs(length_s - RED_S) < 4


def told(receiver: Receiver) -> list[str]:
    """Types of the callbacks about alerts, in the order in which they were written."""
    whole = [tries[-1] for tries in receiver.events.values()]
    whole.sort(key=lambda one: str(one["timestamp"]))
    return [one["type"] for one in whole if str(one["type"]).startswith("alert.")]


def the_clip_plays(watched: Watched, stream_id: str, folder: Path) -> None:
    (alert,) = watched.alerts(stream_id)
    assert moment(alert["clip"]["begun"]) < moment(alert["captured"])
    path = folder / "clip.mp4"
    path.write_bytes(watched.content(alert["clip"]["url"]))
    assert path.stat().st_size == alert["clip"]["size"]
    done = subprocess.run(
        [program(), "-v", "error", "-i", str(path), "-f", "null", "-"],
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, b"")


def newest_is_on_the_wall(watched: Watched, stream_id: str) -> None:
    """A frame of the last moments, of which nobody could tell what it shows."""
    store = NewestStore(load_settings(home=watched.served.home).redis)
    try:
        found = store.read(stream_id)
    finally:
        store.close()
    assert found is not None
    assert abs(time.time() - found.captured_ms / 1000) < 20
    pixels = np.asarray(Image.open(io.BytesIO(found.picture)).convert("RGB"), np.int16)
    assert np.ptp(pixels, axis=2).max() <= 4


def people_find_it(watched: Watched, stream_id: str) -> None:
    """The alert is an item, with a still of its peak, and scores over time."""
    (item,) = watched.get(f"/v1/items?stream_id={stream_id}")["items"]
    (alert,) = watched.alerts(stream_id)
    assert item["id"] == alert["item_id"]
    assert item["verdict"]["decision"] == "block"
    assert [reason["label"] for reason in item["verdict"]["reasons"]] == [PORN]
    evidence = watched.get(f"/v1/items/{item['id']}/evidence")
    (segment,) = evidence["segments"]
    still = watched.content(f"{segment['still']['clear']}?wait=20")
    picture = np.asarray(Image.open(io.BytesIO(still)).convert("RGB")).reshape(-1, 3).mean(axis=0)
    assert picture[0] > 150 > 80 > picture[1]  # red
    scores = watched.get(f"/v1/items/{item['id']}/scores")["series"][0]["scores"][PORN]
    assert max(scores) > 0.9 > 0.6 > min(scores)


def test_a_killed_supervisor_raises_no_second_alert(
    watched: Watched, live_server: LiveServer, tmp_path: Path
) -> None:
    film = red(tmp_path / "b.flv", calm_s=1, red_s=100, then_s=1)
    stream_id = watched.watch(live_server.rtmp("killed"))
    events = watched.events(stream_id)
    try:
        with publishing(film, live_server.rtmp("killed")):
            until(lambda: bool(events.of("alert.opened")), 60, f"opened\n{watched.served.tail()}")
            watched.served.kill("live")
            since = time.time()
            until(
                lambda: watched.newest(stream_id) > since + 3,
                60,
                f"it is watched again\n{watched.served.tail()}",
            )
            watched.delete(stream_id)
            until(lambda: bool(events.of("alert.closed")), 30, "closed")
        assert [len(events.of(f"alert.{kind}")) for kind in ("opened", "closed")] == [1, 1]
        until(lambda: not watched.readers() and not watched.left(), 60, "nothing is left of it")
    finally:
        events.close()


def test_a_supervisor_that_was_paused_leaves_the_stream_to_another(
    watched: Watched, live_server: LiveServer, tmp_path: Path
) -> None:
    """It wakes up after its lease has run out, with frames in hand: nothing of it is written."""
    film = red(tmp_path / "c.flv", calm_s=1, red_s=100, then_s=1)
    stream_id = watched.watch(live_server.rtmp("paused"))
    events = watched.events(stream_id)
    first = watched.served.pid_of("live")
    assert first is not None
    try:
        with publishing(film, live_server.rtmp("paused")), second_supervisor(watched) as second:
            until(lambda: bool(events.of("alert.opened")), 60, f"opened\n{watched.served.tail()}")
            owner = first if descendants(first) else second.pid
            other = second.pid if owner == first else first
            watched.served.pause(owner)
            try:
                since = time.time()
                until(
                    lambda: watched.newest(stream_id) > since + LEASE_S,
                    60,
                    f"the other one watches it\n{watched.served.tail()}",
                )
                assert descendants(other)
            finally:
                os.kill(owner, signal.SIGCONT)
            until(lambda: not descendants(owner), 60, "the first one lets it go")
            since = time.time()
            until(lambda: watched.newest(stream_id) > since, 60, "it is watched all the time")
            watched.delete(stream_id)
            until(lambda: bool(events.of("alert.closed")), 30, "closed")
        assert [len(events.of(f"alert.{kind}")) for kind in ("opened", "closed")] == [1, 1]
        assert events.states().count("ended") == 1
    finally:
        events.close()


@contextmanager
def second_supervisor(watched: Watched) -> Iterator[subprocess.Popen[bytes]]:
    """Another live worker on the same database, ready, until the end."""
    with watched.served.log.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "workers.live"], env=watched.served.env, stdout=log, stderr=log
        )
    try:
        until(lambda: workers(watched) == 2, 30, f"two supervisors\n{watched.served.tail()}")
        yield process
        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()


def workers(watched: Watched) -> int:
    """How many supervisors have told figures."""
    text = watched.content("/metrics").decode()
    return sum(line.startswith("moderation_live_streams{") for line in text.splitlines())
