"""A stream's reader on real streams: right times, nothing late, nothing left, a clip that plays."""

from __future__ import annotations

import itertools
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from moderation.errors import MediaError
from moderation.live.clip import playable
from moderation.live.clock import steady_utc
from moderation.live.ends import EndReason
from moderation.live.picture import PictureWatch, is_bars, is_black
from moderation.live.reader import LiveFrame, LiveReader, ReaderOptions
from moderation.live.ring import Ring, RingOptions
from moderation.types import InputKey
from moderation.video.ffmpeg import program
from tests.integration.live_source import (
    X264,
    Served,
    free_port,
    is_running,
    listens,
    pattern,
    published,
    stands_still,
    until,
)

KEYS = (InputKey(96, 96), InputKey(64, 48))
SMALL = RingOptions(span_s=4.0, part_s=1.0, lead_s=1.0)
QUICK = ("-analyzeduration", "500000")


def options(interval_s: float = 0.5) -> ReaderOptions:
    return ReaderOptions(program(), interval_s=interval_s)


@pytest.fixture
def ring(tmp_path: Path) -> Ring:
    folder = tmp_path / "ring"
    folder.mkdir()
    return Ring(folder, SMALL)


def reader(source: tuple[str, ...], ring: Ring, interval_s: float = 0.5) -> LiveReader:
    return LiveReader((*QUICK, *source), KEYS, ring, options(interval_s), now=steady_utc())


@contextmanager
def http_ts(
    seconds: int, **more: object
) -> Iterator[tuple[tuple[str, ...], subprocess.Popen[bytes]]]:
    """A stream over HTTP, and its server's process."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/live.ts"
    words = (*pattern(seconds), *X264, "-f", "mpegts", "-listen", "1", url)
    with published(*words) as process:
        until(lambda: listens(port), "the server listens")
        yield ("-f", "mpegts", "-i", url), process


def open_files() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def test_frames_come_at_the_interval_with_every_size(ring: Ring) -> None:
    with http_ts(6) as (source, _), reader(source, ring) as reading:
        frames = list(reading)
    assert 9 <= len(frames) <= 12  # this server cuts off the last of it
    # By the stream's own clock: ours goes on while a process is held up.
    gaps = np.diff([frame.stamp_s for frame in frames[3:-1]])
    assert gaps == pytest.approx(0.5, abs=0.2)
    times = [frame.captured_s for frame in frames]
    assert times == sorted(set(times))
    for frame in frames:
        assert set(frame.pixels) >= set(KEYS)
        for key in KEYS:
            assert frame.pixels[key].shape == (key.height, key.width, 3)
        assert frame.captured_s <= frame.arrived_s + 0.1
    one, other = (frame.pixels[KEYS[0]].astype(int) for frame in frames[:2])
    assert np.abs(one - other).max() > 30  # the picture moves


def test_capture_times_are_those_at_which_the_pictures_were_made(ring: Ring) -> None:
    """A picture's grey tells when it went into the encoder."""
    rate, count, levels = 25, 150, 64
    url = f"udp://127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
    raw = ("-f", "rawvideo", "-pix_fmt", "gray", "-s", "320x180", "-r", str(rate), "-i", "pipe:0")
    made: dict[int, float] = {}
    frames: list[LiveFrame] = []
    now = steady_utc()

    def make(process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        begun = time.monotonic()
        pause = threading.Event()
        for number in range(count):
            pause.wait(max(0.0, begun + number / rate - time.monotonic()))
            made[number] = now()
            process.stdin.write(bytes([40 + 3 * (number % levels)]) * (320 * 180))
            process.stdin.flush()
        process.stdin.close()

    # Its own buffers are no part of the reader's delay.
    words = ("-probesize", "32", *raw, *X264, "-f", "mpegts", f"{url}?pkt_size=188")
    with reader(("-f", "mpegts", "-i", url), ring) as reading, published(*words) as process:
        maker = threading.Thread(target=make, args=(process,))
        maker.start()
        for frame in reading:
            frames.append(frame)
            if len(frames) == 9:
                break
        maker.join()
    assert len(frames) == 9
    off_s: list[float] = []
    shown = [round((float(frame.grey.mean()) - 40) / 3) for frame in frames]
    for frame, level in list(zip(frames, shown, strict=True))[4:]:
        assert frame.captured_s <= frame.arrived_s + 0.01
        # Pictures and time stamps go together, whoever is held up meanwhile.
        passed = round((frame.stamp_s - frames[0].stamp_s) * rate)
        assert (passed - level + shown[0]) % levels == 0
        off_s += [abs(frame.captured_s - made[number]) for number in range(level, count, levels)]
    assert min(off_s) < 0.45


def test_a_server_that_dies_is_told_at_once(ring: Ring) -> None:
    with http_ts(60) as (source, server), reader(source, ring) as reading:
        frames = iter(reading)
        list(itertools.islice(frames, 3))
        server.kill()
        killed = time.monotonic()
        rest = list(frames)
        assert time.monotonic() - killed < 25
    assert reading.end is not None
    # The kernel closes its connections in order: nothing tells this from an end on purpose.
    assert reading.end.reason is EndReason.OVER
    assert reading.end.frames == 3 + len(rest)


def test_a_server_that_closes_in_order_is_told_apart(ring: Ring, tmp_path: Path) -> None:
    data = ts(tmp_path, 3)
    length = f"HTTP/1.1 200 OK\r\nContent-Length: {len(data)}\r\n\r\n".encode()
    with Served(data, 1e7, head=length) as served, reader(served_source(served), ring) as reading:
        assert len(list(reading)) in (5, 6)
    assert reading.end is not None
    assert reading.end.reason is EndReason.OVER


def test_nobody_there_is_told(ring: Ring) -> None:
    url = f"http://127.0.0.1:{free_port()}/live.ts"
    with reader(("-f", "mpegts", "-i", url), ring) as reading:
        assert list(reading) == []
    assert reading.end is not None
    assert reading.end.reason is EndReason.UNREACHABLE


def test_refused_credentials_are_told(ring: Ring) -> None:
    refusal = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
    with Served(b"", 1.0, head=refusal) as served, reader(served_source(served), ring) as reading:
        assert list(reading) == []
    assert reading.end is not None
    assert reading.end.reason is EndReason.AUTH


def test_a_stalled_source_is_ended_from_outside_and_leaves_nothing(
    ring: Ring, tmp_path: Path
) -> None:
    """It keeps the connection and sends no more: only a watchdog can end that."""
    before = open_files()
    data = ts(tmp_path, 4)
    seen: list[LiveFrame] = []
    pids: list[int] = []
    entered = threading.Event()
    with Served(data, len(data) / 3) as served:
        reading = reader(served_source(served), ring)

        def read() -> None:
            with reading:
                pids.append(reading.pid)
                entered.set()
                seen.extend(reading)

        thread = threading.Thread(target=read)
        thread.start()
        assert entered.wait(30)
        assert served.silent.wait(30)
        until(lambda: len(seen) >= 6, "frames came")
        assert is_running(pids[0])
        reading.kill()
        thread.join(10)
        assert not thread.is_alive()
    assert not is_running(pids[0])
    assert open_files() == before


def test_a_publisher_of_datagrams_that_vanishes_leaves_the_reader_waiting(ring: Ring) -> None:
    port = free_port(socket.SOCK_DGRAM)
    url = f"udp://127.0.0.1:{port}"
    seen: list[LiveFrame] = []
    words = (*pattern(60), *X264, "-f", "mpegts", f"{url}?pkt_size=1316")
    with reader(("-f", "mpegts", "-i", url), ring) as reading:
        thread = threading.Thread(target=lambda: seen.extend(reading))
        thread.start()
        with published(*words):
            until(lambda: len(seen) >= 4, "frames came")
        stands_still(lambda: len(seen), 1.5, "no more frames come")
        assert is_running(reading.pid)
        reading.kill()
        thread.join(10)
        assert not thread.is_alive()


def test_another_resolution_and_time_stamps_that_jump_back_are_read_on(
    ring: Ring, tmp_path: Path
) -> None:
    one = write_flv(tmp_path / "one.flv", 3, "320x180")
    other = write_flv(tmp_path / "other.flv", 3, "160x120")
    # The second one's tags follow the first one's: its time stamps begin at 0 again.
    data = one + other[13:] + one[13:]
    with Served(data, len(data) / 9) as served:
        url = f"http://127.0.0.1:{served.port}/live.flv"
        source = (*QUICK, "-f", "flv", "-i", url)
        frames: list[LiveFrame] = []
        with LiveReader(source, KEYS, ring, options(), now=steady_utc()) as reading:
            for frame in reading:
                frames.append(frame)
                if len(frames) == 16:
                    clip = ring.freeze(frame.captured_s - 2, tmp_path / "clip.ts")
                    break
    times = [frame.captured_s for frame in frames]
    assert times == sorted(set(times))
    # Each begins anew with the arrival of its first one.
    arrived_s = frames[-1].arrived_s - frames[0].arrived_s
    least_s = min(0.5 * (len(times) - 1), arrived_s) - 1.5
    assert least_s < times[-1] - times[0] < arrived_s + 0.01
    assert decoded(clip.path) > 10


def test_the_ring_stays_small_and_a_clip_begins_before_its_frame(
    ring: Ring, tmp_path: Path
) -> None:
    with http_ts(60) as (source, _), reader(source, ring) as reading:
        frames = []
        for frame in reading:
            frames.append(frame)
            parts = ring.parts()
            kept_s = frame.arrived_s - SMALL.span_s
            assert all(part.begun_s > kept_s for part in parts[1:])
            if len(frames) >= 16 and parts[0].number > 0:
                # The oldest one before which the ring surely reaches as far as a clip has to.
                captured_s = kept_s + SMALL.lead_s
                clip = ring.freeze(captured_s, tmp_path / "clip.ts")
                break
        else:
            pytest.fail("old parts are not deleted")
    begun = [part.begun_s for part in parts]
    assert clip.begun_s == max(one for one in begun if one <= captured_s - SMALL.lead_s)
    assert clip.size == clip.path.stat().st_size
    seconds = decoded(clip.path) / 10
    shown = [one for one in begun if one >= clip.begun_s]  # a second each, the last one less
    assert seconds == pytest.approx(len(shown), abs=1.2)
    playable(clip, program(), tmp_path / "clip.mp4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "clip.ts", "ring"]
    assert b"moov" in (tmp_path / "clip.mp4").read_bytes()[:64]
    assert decoded(tmp_path / "clip.mp4") == decoded(clip.path)


def test_the_clip_shows_what_was_there_before_the_alert(tmp_path: Path) -> None:
    """White from the fifth second on; the clip of the first white frame begins black."""
    folder = tmp_path / "ring"
    folder.mkdir()
    ring = Ring(folder, replace(SMALL, span_s=60.0))
    white = "drawbox=c=white:t=fill:enable='gte(t,5)'"
    port = free_port()
    url = f"http://127.0.0.1:{port}/live.ts"
    black = ("-re", "-f", "lavfi", "-i", "color=black:size=320x180:rate=10:duration=30")
    with published(*black, "-vf", white, *X264, "-f", "mpegts", "-listen", "1", url):
        until(lambda: listens(port), "the server listens")
        with reader(("-f", "mpegts", "-i", url), ring) as reading:
            frames = iter(reading)
            opening = next(frame for frame in frames if frame.grey.mean() > 200)
            next(frames)
            clip = ring.freeze(opening.captured_s, tmp_path / "clip.ts")
    levels = greys(clip.path)
    assert levels[0] < 20
    assert levels[-1] > 200
    assert levels.index(next(level for level in levels if level > 200)) >= 10  # a second or more


def test_the_second_attempt_goes_on_with_the_ring(ring: Ring) -> None:
    for _ in range(2):
        with http_ts(4) as (source, _), reader(source, ring) as reading:
            assert list(itertools.islice(reading, 6))
    numbers = [part.number for part in ring.parts()]
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    begun = [part.begun_s for part in ring.parts()]
    assert begun == sorted(begun)


@pytest.mark.parametrize(
    ("source", "judge"),
    [
        ("smptebars", is_bars),
        ("smptehdbars", is_bars),
        ("pal75bars", is_bars),
        ("pal100bars", is_bars),
        ("color=black", is_black),
    ],
)
def test_ffmpeg_s_own_test_pictures_are_meaningless(
    source: str, judge: Callable[[object], bool], ring: Ring
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/live.ts"
    size = ":" if "=" in source else "="
    picture = ("-re", "-f", "lavfi", "-i", f"{source}{size}size=320x180:rate=10:duration=4")
    with published(*picture, *X264, "-f", "mpegts", "-listen", "1", url):
        until(lambda: listens(port), "the server listens")
        with reader(("-f", "mpegts", "-i", url), ring) as reading:
            frame = next(iter(reading))
    assert judge(frame.grey)


def test_a_coded_still_is_frozen_and_a_moving_picture_is_not(ring: Ring) -> None:
    """Key frames change a still picture a little, every time."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/live.ts"
    still = ("-re", "-f", "lavfi", "-i", "mandelbrot=size=320x180:rate=10,loop=-1:1:8")
    poor = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "7", "-crf", "33", "-t", "6")
    with published(*still, *poor, "-f", "mpegts", "-listen", "1", url):
        until(lambda: listens(port), "the server listens")
        with reader(("-f", "mpegts", "-i", url), ring) as reading:
            watch = PictureWatch()
            found = [watch.add(frame.grey) is not None for frame in reading]
    # It moves in the first second, and the coder takes another to make it sharp.
    assert found[6:] == [True] * len(found[6:])
    assert len(found) >= 8
    with http_ts(4) as (source, _), reader(source, ring) as reading:
        watch = PictureWatch()
        assert not any(watch.add(frame.grey) for frame in reading)


def test_a_codec_that_the_ring_cannot_hold_gives_frames_and_says_so(
    ring: Ring, tmp_path: Path
) -> None:
    film = tmp_path / "film.avi"
    picture = ("-f", "lavfi", "-i", "testsrc=size=320x180:rate=10:duration=3")
    jpeg = ("-c:v", "mjpeg", "-pix_fmt", "yuvj420p")
    subprocess.run([program(), "-v", "error", *picture, *jpeg, str(film)], check=True, timeout=60)
    with reader(("-i", str(film)), ring) as reading:
        assert len(list(reading)) == 6
    clip = ring.freeze(0.0, tmp_path / "clip.ts")
    with pytest.raises(MediaError, match="cannot be put into an MP4"):
        playable(clip, program(), tmp_path / "clip.mp4")


def test_a_stream_without_key_frames_cannot_fill_the_disk(tmp_path: Path) -> None:
    folder = tmp_path / "ring"
    folder.mkdir()
    film = tmp_path / "film.ts"
    noise = "testsrc=size=320x180:rate=25:duration=60,noise=alls=40:allf=t"
    once = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "99999", "-b:v", "2M")
    words = [program(), "-v", "error", "-f", "lavfi", "-i", noise, *once, str(film)]
    subprocess.run(words, check=True, timeout=120)
    ring = Ring(folder, RingOptions(max_bytes=1_000_000, part_s=1.0))
    assert film.stat().st_size > 5_000_000
    with reader(("-f", "mpegts", "-i", str(film)), ring) as reading:
        frames = len(list(reading))
    assert reading.end is not None
    assert reading.end.reason is EndReason.BROKEN
    assert frames > 0
    assert [part.size for part in ring.parts()] == [1_000_000]


def ts(folder: Path, seconds: int) -> bytes:
    path = folder / "stream.ts"
    write(path, seconds, "320x180", "mpegts")
    return path.read_bytes()


def write_flv(path: Path, seconds: int, size: str) -> bytes:
    write(path, seconds, size, "flv")
    return path.read_bytes()


def write(path: Path, seconds: int, size: str, container: str) -> None:
    picture = ("-f", "lavfi", "-i", f"testsrc=size={size}:rate=10:duration={seconds}")
    words = [program(), "-nostdin", "-v", "error", *picture, *X264, "-f", container, str(path)]
    subprocess.run(words, check=True, timeout=60)


def served_source(served: Served) -> tuple[str, ...]:
    return ("-f", "mpegts", "-i", f"http://127.0.0.1:{served.port}/live.ts")


def greys(path: Path) -> list[float]:
    """Mean grey of every frame of a file."""
    words = [program(), "-nostdin", "-v", "error", "-i", str(path), "-vf", "scale=16:16"]
    words += ["-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "gray", "pipe:1"]
    found = subprocess.run(words, check=True, timeout=60, capture_output=True)
    return [
        float(level) for level in np.frombuffer(found.stdout, np.uint8).reshape(-1, 256).mean(1)
    ]


def decoded(path: Path) -> int:
    """How many frames of a file can be decoded."""
    return len(greys(path))
