"""Seconds from a frame of a live stream to its alert, by every protocol at once.

    python -m benchmarks.alerts [--minutes 5] [--json]

One film of 720p, in which another picture takes the place of the first for a while, again and
again, is sent by RTMP and HLS (nginx), RTSP (GStreamer's server), and by HTTP-FLV and SRT (ffmpeg
that listens): five streams of `moderation serve`, a frame a second each, with the models that are
set. No picture here is harmful: a policy with a threshold between what the models say of the two
calls the other one a passage. Told are the seconds from the capture of the frame that opened an
alert until the alert came by Server-Sent Events, and until its callback came; of RTMP also from
the moment at which the passage began to be sent.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import skimage.data
from PIL import Image

from benchmarks.film import ffmpeg, joined, source
from benchmarks.machine import machine
from benchmarks.server import Server, serving
from benchmarks.verdicts import here
from moderation.policy import Rule
from moderation.rolling import closing
from moderation.settings import load_settings
from tests.live_servers import live_server, publishing, rtsp_server
from tests.servers import free_port

CALM_S, SHOWN_S = 7, 5
HOLD_S = 2
START_S = 60.0
SIZE = (1280, 720)
PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")


@dataclass(frozen=True, slots=True)
class Passage:
    """What sets a photograph apart from the film: a label, and a threshold between their scores."""

    photograph: Path
    label: str
    threshold: float
    gap: float


@dataclass
class Heard:
    """What came of one stream: seconds UTC by alert, and how many events of each kind."""

    captured: dict[str, float] = field(default_factory=dict)
    by_events: dict[str, float] = field(default_factory=dict)
    by_callback: dict[str, float] = field(default_factory=dict)
    kinds: Counter[str] = field(default_factory=Counter)

    def event(self, told: Mapping[str, Any]) -> None:
        self.kinds[told["type"]] += 1
        if told["type"] == "alert.opened":
            data = told["data"]
            self.by_events[data["alert_id"]] = time.time()
            self.captured[data["alert_id"]] = datetime.fromisoformat(data["captured"]).timestamp()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="benchmarks.alerts",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="moderation-bench-") as scratch:
        result = measure(Path(scratch), args.minutes * 60)
    print(json.dumps(result, indent=2) if args.json else report(result))
    return 0


def measure(folder: Path, seconds: float) -> dict[str, Any]:
    passage = between(folder)
    turn = film(folder / "turn.mp4", passage.photograph)
    turns = round(seconds / (CALM_S + SHOWN_S))
    whole = joined(folder / "whole.mp4", [turn] * (turns + 10))
    allowed = {
        "MODERATION_FETCH_ENABLED": "true",
        "MODERATION_FETCH_ALLOW": "127.0.0.1",
        "MODERATION_POLICY_DIR": str(policies(folder / "policies", passage)),
    }
    with ExitStack() as stack:
        server = stack.enter_context(serving(folder / "home", allowed))
        nginx = stack.enter_context(live_server())
        flv, srt = (f"{way}://127.0.0.1:{free_port()}" for way in ("http", "srt"))
        stack.enter_context(publishing(turn, flv, "flv", ("-listen", "1")))
        stack.enter_context(publishing(turn, f"{srt}?mode=listener", "mpegts"))
        rtsp = stack.enter_context(rtsp_server(whole))
        stack.enter_context(publishing(turn, nginx.rtmp("film")))
        begun = time.time()
        urls = {"RTMP": nginx.rtmp("film"), "HLS": nginx.hls("film"), "RTSP": rtsp}
        urls |= {"HTTP-FLV": flv, "SRT": srt}
        heard = {name: stack.enter_context(listening(server, url)) for name, url in urls.items()}
        waited = time.monotonic() + seconds
        while (left_s := waited - time.monotonic()) > 0:
            time.sleep(min(10.0, left_s))
            opened = {name: one.kinds["alert.opened"] for name, one in heard.items()}
            print(f"{seconds - left_s:6.0f} s  {opened}", file=sys.stderr)
        # Whatever was opened is told to both by now, and the last passage is over.
        time.sleep(CALM_S)
    return {
        "machine": machine(),
        "passage": f"{passage.photograph.stem}, {passage.label} from {passage.threshold:.3f} on",
        "seconds": round(seconds),
        "streams": {name: figures(one) for name, one in heard.items()},
        "all": spread([*_waits(heard, "by_events"), *_waits(heard, "by_callback")]),
        "RTMP, from the passage's first frame": spread(_shown(heard["RTMP"], begun)),
    }


def between(folder: Path) -> Passage:
    """The photograph and the label that the models tell best from the film."""
    still = ffmpeg(folder / "still.png", "-ss", "3", "-i", str(source()), "-frames:v", "1")
    shipped = Path(skimage.data.__file__).parent
    found = [shipped / name for name in PHOTOGRAPHS]
    calm, *others = here([_jpeg(one) for one in (still, *found)], load_settings())
    gaps = [
        Passage(path, label, (score + calm.scores[label]) / 2, score - calm.scores[label])
        for path, verdict in zip(found, others, strict=True)
        for label, score in verdict.scores.items()
    ]
    best = max(gaps, key=lambda one: one.gap)
    rule = Rule(label=best.label, review_at=best.threshold)
    if closing(rule) <= best.threshold - best.gap / 2:
        raise SystemExit("the models do not tell these pictures apart")
    return best


def _jpeg(path: Path) -> bytes:
    file = io.BytesIO()
    Image.open(path).convert("RGB").resize(SIZE).save(file, "jpeg", quality=90)
    return file.getvalue()


def film(path: Path, photograph: Path) -> Path:
    """Calm for a while, then the photograph, slowly zoomed."""
    width, height = SIZE
    joint = (
        f"[0:v]scale={width}:{height},fps=30,trim=duration={CALM_S},setsar=1[a];"
        f"[1:v]scale={width}*(1+0.02*t):{height}*(1+0.02*t):eval=frame,crop={width}:{height},"
        "fps=30,setsar=1[b];[a][b]concat[v]"
    )
    photo = ("-loop", "1", "-t", str(SHOWN_S), "-i", str(photograph))
    coder = ("-c:v", "libx264", "-preset", "veryfast", "-tune", "zerolatency", "-b:v", "1200k")
    words = (*coder, "-g", "30", "-pix_fmt", "yuv420p", "-an")
    base = ("-stream_loop", "-1", "-i", str(source()))
    return ffmpeg(path, *base, *photo, "-filter_complex", joint, "-map", "[v]", *words)


def policies(folder: Path, passage: Passage) -> Path:
    """A folder with the policy of that passage."""
    folder.mkdir()
    at = f"review_at: {passage.threshold:.4f}, min_frames: 2, window: 3"
    (folder / "between.yaml").write_text(
        "id: between\nversion: 1\nsummary: For a benchmark.\nmode: live\non_failure: review\n"
        f"rules:\n  - {{label: {passage.label}, {at}}}\n"
    )
    return folder


@contextmanager
def listening(server: Server, url: str) -> Iterator[Heard]:
    """Watch a stream; what is heard of it by events and by callbacks, until the end."""
    heard = Heard()
    base, key = f"http://127.0.0.1:{server.port}", {"Authorization": f"Bearer {server.key}"}
    with called_back(heard) as callback, httpx.Client(base_url=base, headers=key) as client:
        body = {"url": url, "policy": "between", "interval_ms": 1000, "hold_s": HOLD_S}
        made = client.post("/v1/streams", json=body | {"callback_url": callback}, timeout=30)
        stream_id = made.raise_for_status().json()["id"]
        over = threading.Event()
        thread = threading.Thread(target=_hear, args=(client, stream_id, heard, over))
        thread.start()
        try:
            _live(client, stream_id)
            yield heard
        finally:
            over.set()
            # Its end is an event, which ends the reading.
            client.delete(f"/v1/streams/{stream_id}", timeout=30)
            thread.join()


def _hear(client: httpx.Client, stream_id: str, heard: Heard, over: threading.Event) -> None:
    with client.stream("GET", f"/v1/streams/{stream_id}/events", timeout=120) as response:
        for line in response.iter_lines():
            if line.startswith("data: "):
                heard.event(json.loads(line.removeprefix("data: ")))
                if over.is_set():
                    return


def _live(client: httpx.Client, stream_id: str) -> None:
    deadline = time.monotonic() + START_S
    while client.get(f"/v1/streams/{stream_id}").json()["frames_seen"] == 0:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{stream_id} is not live within {START_S:.0f} s")
        time.sleep(0.2)


@contextmanager
def called_back(heard: Heard) -> Iterator[str]:
    """A receiver of callbacks; its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if told["type"] == "alert.opened":
                heard.by_callback.setdefault(told["data"]["alert_id"], time.time())
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def figures(heard: Heard) -> dict[str, Any]:
    return {
        "opened": heard.kinds["alert.opened"],
        "closed": heard.kinds["alert.closed"],
        "called back": len(heard.by_callback),
        "events": spread(_waits({"": heard}, "by_events")),
        "callbacks": spread(_waits({"": heard}, "by_callback")),
    }


def _waits(heard: Mapping[str, Heard], way: str) -> list[float]:
    """Seconds from each capture to what came of it."""
    return [
        at - one.captured[alert]
        for one in heard.values()
        for alert, at in getattr(one, way).items()
        if alert in one.captured
    ]


def _shown(heard: Heard, begun: float) -> list[float]:
    """Seconds since the passage's first frame was sent, of each alert. begun: of the sending."""
    turn_s = CALM_S + SHOWN_S
    return [(at - begun - CALM_S) % turn_s for at in heard.by_events.values()]


def spread(seconds: list[float]) -> dict[str, float]:
    if not seconds:
        return {}
    p50, p95, most = (round(float(np.percentile(seconds, at)), 2) for at in (50, 95, 100))
    return {"p50": p50, "p95": p95, "max": most}


def report(result: Mapping[str, Any]) -> str:
    lines = [result["machine"], f"passage: {result['passage']}; {result['seconds']} s"]
    for name, one in result["streams"].items():
        counts = f"{one['opened']} opened, {one['closed']} closed, {one['called back']} called back"
        lines.append(f"{name}: {counts}")
        lines += [f"  {way}: {_told(one[way])}" for way in ("events", "callbacks")]
    more = ("all", "RTMP, from the passage's first frame")
    return "\n".join([*lines, *(f"{name}: {_told(result[name])}" for name in more)])


def _told(spread_: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {seconds:.2f} s" for name, seconds in spread_.items()) or "none"


if __name__ == "__main__":
    sys.exit(main())
