"""Live streams of 720p at one frame a second: whether they stay, what they cost, how many fit.

    python -m benchmarks.live [--streams 16] [--minutes 10] [--capacity] [--json]

nginx with its RTMP module relays one publisher (a film of 720p, 30 frames/s, about 1.2 Mb/s) to as
many streams of `moderation serve`, with the models that are set. Every ten seconds their frames
are counted, and memory, open files and processes of the whole tree. With --capacity streams are
added instead, until more than one frame in a hundred is dropped. Beside it: how many such films
ffmpeg decodes at their own speed on all cores, with nothing else to do.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from benchmarks.film import MINUTE_S, minute
from benchmarks.machine import machine
from benchmarks.server import Server, serving
from benchmarks.tree import memory_mib, tree
from moderation.video.ffmpeg import program
from tests.live_servers import live_server, publishing

EVERY_S = 10.0
STEP = 2
STEP_S = 30.0
DROPPED = 0.01
START_S = 60.0
MOST = 64


@dataclass(frozen=True, slots=True)
class Sample:
    """Of one moment. seen, dropped: frames of all streams since they began."""

    at_s: float
    live: int
    seen: int
    dropped: int
    pss_mib: float
    files: int
    processes: int


class Streams:
    """Streams of one running server that all read the same source."""

    def __init__(self, server: Server, url: str) -> None:
        self._pid, self._url = server.pid, url
        self._client = httpx.Client(
            base_url=f"http://127.0.0.1:{server.port}",
            headers={"Authorization": f"Bearer {server.key}"},
            timeout=30,
        )
        self._begun = time.monotonic()
        self.count = 0

    def add(self, count: int) -> None:
        """Returns when all of them have frames. Raises TimeoutError."""
        for _ in range(count):
            self._client.post("/v1/streams", json={"url": self._url}).raise_for_status()
        self.count += count
        deadline = time.monotonic() + START_S
        while sum(row["frames_seen"] > 0 for row in self._rows()) < self.count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.count} streams are not live within {START_S:.0f} s")
            time.sleep(0.5)

    def sample(self) -> Sample:
        rows, pids = self._rows(), tree(self._pid)
        return Sample(
            at_s=round(time.monotonic() - self._begun, 1),
            live=sum(row["state"] == "live" for row in rows),
            seen=sum(row["frames_seen"] for row in rows),
            dropped=sum(row["frames_dropped"] for row in rows),
            pss_mib=round(memory_mib(pids), 1),
            files=sum(_files(pid) for pid in pids),
            processes=len(pids),
        )

    def close(self) -> None:
        self._client.close()

    def _rows(self) -> list[dict[str, Any]]:
        answer = self._client.get("/v1/streams", params={"limit": 100}).raise_for_status()
        rows: list[dict[str, Any]] = answer.json()["streams"]
        return rows


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="benchmarks.live",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--capacity", action="store_true", help="how many streams fit")
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="moderation-bench-") as scratch:
        folder = Path(scratch)
        film = minute(folder / "film.flv", gop_s=2)
        result: dict[str, Any] = {"machine": machine(), "decode_limit": round(decodes(film), 1)}
        with watching(folder, film) as streams:
            if args.capacity:
                result |= capacity(streams)
            else:
                result |= soak(streams, args.streams, args.minutes * 60)
    print(json.dumps(result, indent=2) if args.json else report(result))
    return 0


@contextmanager
def watching(folder: Path, film: Path) -> Iterator[Streams]:
    """A server with no streams yet, and a source for them."""
    allowed = {"MODERATION_FETCH_ENABLED": "true", "MODERATION_FETCH_ALLOW": "127.0.0.1"}
    with (
        live_server() as nginx,
        publishing(film, nginx.rtmp("film")),
        serving(folder / "home", allowed) as server,
    ):
        streams = Streams(server, nginx.rtmp("film"))
        try:
            yield streams
        finally:
            streams.close()


def soak(streams: Streams, count: int, seconds: float) -> dict[str, Any]:
    """The same streams for a while; growth is from the second fifth of the time to the last."""
    streams.add(count)
    first = streams.sample()
    samples = [first]
    while (left_s := first.at_s + seconds - samples[-1].at_s) > 0:
        time.sleep(min(EVERY_S, left_s))
        samples.append(streams.sample())
        tell(samples[-1])
    fifth = max(1, len(samples) // 5)
    early, late = samples[fifth : 2 * fifth], samples[-fifth:]
    last = samples[-1]
    seen = last.seen - first.seen
    return {
        "streams": count,
        "seconds": round(last.at_s - first.at_s),
        "live_at_least": min(one.live for one in samples),
        "frames_per_s": round(seen / (last.at_s - first.at_s), 2),
        "dropped_share": round((last.dropped - first.dropped) / max(seen, 1), 4),
        "growth": {
            name: [round(median(getattr(one, name) for one in part), 1) for part in (early, late)]
            for name in ("pss_mib", "files", "processes")
        },
        "samples": [asdict(one) for one in samples],
    }


def capacity(streams: Streams) -> dict[str, Any]:
    """Streams are added until frames are dropped."""
    steps = []
    while streams.count + STEP <= MOST:
        streams.add(STEP)
        before = streams.sample()
        time.sleep(STEP_S)
        after = streams.sample()
        tell(after)
        share = (after.dropped - before.dropped) / max(after.seen - before.seen, 1)
        steps.append({"streams": streams.count, "dropped_share": round(share, 4)})
        if share > DROPPED:
            break
    held = [step["streams"] for step in steps if step["dropped_share"] <= DROPPED]
    return {"holds": max(held, default=0), "steps": steps}


def decodes(film: Path) -> float:
    """How many films one decoder a core, together, read at their own speed."""
    argv = [program(), "-nostdin", "-v", "error", "-threads", "1", "-i", str(film)]
    started = time.perf_counter()
    running = [
        subprocess.Popen([*argv, "-map", "0:v:0", "-f", "null", "-"])
        for _ in range(os.cpu_count() or 1)
    ]
    try:
        for process in running:
            if process.wait(600):
                raise SystemExit("ffmpeg does not decode the film")
    finally:
        for process in running:
            process.kill()
    return len(running) * MINUTE_S / (time.perf_counter() - started)


def tell(sample: Sample) -> None:
    print(
        f"{sample.at_s:6.0f} s  {sample.live} live, {sample.seen} frames, {sample.dropped} dropped,"
        f" {sample.pss_mib:.0f} MiB, {sample.files} files, {sample.processes} processes",
        file=sys.stderr,
    )


def report(result: dict[str, Any]) -> str:
    lines = [result["machine"], f"ffmpeg decodes {result['decode_limit']} such films at once"]
    if "steps" in result:
        lines += [
            f"{x['streams']} streams: {x['dropped_share']:.1%} dropped" for x in result["steps"]
        ]
        return "\n".join([*lines, f"streams that fit: {result['holds']}"])
    lines += [
        f"{result['streams']} streams for {result['seconds']} s: at least "
        f"{result['live_at_least']} live, {result['frames_per_s']} frames/s, "
        f"{result['dropped_share']:.1%} dropped"
    ]
    lines += [f"{name}: {a} early, {b} late" for name, (a, b) in result["growth"].items()]
    return "\n".join(lines)


def _files(pid: int) -> int:
    try:
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except OSError:
        return 0  # it has just ended


if __name__ == "__main__":
    sys.exit(main())
