"""A film made anew for people: small, without sound or metadata, playable in any browser.

What reviewers watch is never the uploaded bytes: many of those do not play in a browser, and
they may attack the program that opens them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import ffmpeg

from moderation.errors import MediaError
from moderation.video.ffmpeg import MediaProcess
from moderation.video.probe import VideoInfo
from moderation.video.source import ReadOptions, picture

MAX_LINES = 480
MAX_WIDTH = 1280
MAX_RATE = 30.0
BIT_RATE = 1_200_000
KEY_EVERY_S = 2
"""Seconds between key frames: how exactly a player seeks."""
MAX_BYTES = 1 << 30
"""Of one proxy: a longer film gets fewer bits a second."""
HEADROOM = 0.85
"""Part of MAX_BYTES that the bit rate is planned for: rate control is not exact."""
START_S = 60.0
"""Seconds that even the shortest film may take, and each second of a film one more."""
LONGEST_S = 2 * 3600.0


@contextmanager
def proxy(path: Path, info: VideoInfo, reading: ReadOptions, folder: Path) -> Iterator[Path]:
    """The film as an MP4 of at most 480 lines, in a file that has no name and is gone when the
    block ends, whatever happens. folder: where its bytes lie.

    A player needs the index first and then to jump, so the program writes to a file and not to
    a pipe: to this one, which it gets open. Raises MediaError, and decode_timeout.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        target = f"/dev/fd/{file.fileno()}"
        timeout_s = min(LONGEST_S, START_S + info.duration_s)
        with MediaProcess(
            command(path, info, replace(reading, skip="none"), target),
            timeout_s=timeout_s,
            memory_mib=reading.memory_mib,
            pass_fds=(file.fileno(),),
            file_bytes=MAX_BYTES,
        ) as process:
            process.read_all(0)
            code = process.finish()
            last = process.tail.splitlines()[-1:] or ["nothing was said"]
        if code != 0:
            raise MediaError(f"the film cannot be made anew ({code}): {last[0][:200]}")
        yield Path(target)


def command(path: Path, info: VideoInfo, reading: ReadOptions, target: str) -> list[str]:
    """The argv of ffmpeg. A moment of the proxy is the same moment of the film."""
    film = picture(path, info, reading).filter("setpts", f"PTS-({info.start_s:.6f})/TB")
    if info.frames > MAX_RATE * info.held_s:
        film = film.filter("fps", MAX_RATE)
    width, height = size(info)
    film = (
        film.filter("scale", width, height)
        .filter("setsar", 1)
        .filter("format", "yuv420p")
        .filter("settb", "1/90000")
    )
    rate = bit_rate(info.duration_s)
    output = ffmpeg.output(
        film,
        target,
        format="mp4",
        vcodec="libx264",
        preset="veryfast",
        crf=28,
        maxrate=rate,
        bufsize=2 * rate,
        profile="main",
        threads=1,
        force_key_frames=f"expr:gte(t,n_forced*{KEY_EVERY_S})",
        fps_mode="vfr",
        enc_time_base="filter",  # the encoder's own would move frames to the average rate
        movflags="+faststart",
        map_metadata=-1,
        map_chapters=-1,
        abort_on="empty_output",
        fflags="+bitexact",
    )
    words: list[str] = output.global_args(
        "-nostdin", "-hide_banner", "-v", "error", "-filter_threads", "1", "-y"
    ).compile(cmd=reading.program)
    return words


def size(info: VideoInfo) -> tuple[int, int]:
    """Width and height, even, in the film's shape, at most 480 lines, never enlarged but to the
    even number that the codec needs."""
    scale = min(1.0, MAX_LINES / info.height, MAX_WIDTH / info.width)
    width, height = (max(2, 2 * round(side * scale / 2)) for side in (info.width, info.height))
    return width, height


def bit_rate(duration_s: float) -> int:
    """Bits a second at most, such that the whole stays below MAX_BYTES."""
    return min(BIT_RATE, int(8 * HEADROOM * MAX_BYTES / max(1.0, duration_s)))
