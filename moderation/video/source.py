"""Frames of a video file at asked times, at the sizes that the models read.

ffmpeg decodes, picks and scales; one process reads one stretch of the file and ends with it.
Every frame comes with its own time, not with the one that was asked for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import ffmpeg
import numpy as np
from numpy.typing import NDArray

from moderation.errors import MediaError
from moderation.types import InputKey
from moderation.video.ffmpeg import MediaProcess
from moderation.video.limits import FORMATS
from moderation.video.probe import VideoInfo

MAX_TIMES = 128
"""Asked times of one stretch: each is a term of the filter that picks frames."""

SAME_S = 0.0005
"""Times nearer than this name the same frame: they are told in rounded decimals."""
INDEXED = ("mov", "mp4", "matroska", "webm", "avi")
"""Containers in which a key frame is found at once; in the others reading begins earlier."""
EARLIER_S = 1.0

_FLAGS = {"area": "area", "bilinear": "bilinear", "bicubic": "bicubic"}
_CLOCK = re.compile(rb"frame:\d+\s+pts:(-?\d+)\s")


@dataclass(frozen=True, slots=True, eq=False)
class VideoFrame:
    """time_s: the frame's own. pixels: one array (height, width, 3) uint8 RGB for every asked
    key, of the whole frame as shown (rotated)."""

    time_s: float
    pixels: Mapping[InputKey, NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """program: ffmpeg. skip: "noref" leaves out frames that no other needs, which costs less
    and finds the next frame that is left. timeout_s, memory_mib, max_pixels: what one stretch
    may take."""

    program: str
    skip: Literal["none", "noref"] = "none"
    timeout_s: float = 120.0
    memory_mib: int = 2048
    max_pixels: int = 100_000_000


def read_frames(
    path: Path,
    times: Sequence[float],
    seek_s: float,
    info: VideoInfo,
    keys: Sequence[InputKey],
    options: ReadOptions,
) -> Iterator[VideoFrame]:
    """The first frame at or after each time, in order; each frame once.

    times: 1 to MAX_TIMES ascending own times of frames. seek_s: where reading begins, as
    `FrameIndex.seek_to` tells. Later frames come where the file is damaged or frames are skipped:
    compare the frames' own times. Close the iterator to end the program early. Raises MediaError
    when nothing at all can be read, and decode_timeout.
    """
    if not 1 <= len(times) <= MAX_TIMES or list(times) != sorted(times):
        raise ValueError(f"1 to {MAX_TIMES} ascending times, not {len(times)}")
    size = _sheet_bytes(keys)
    with ExitStack() as stack:
        reading, writing = os.pipe()
        clock = stack.enter_context(os.fdopen(reading, "rb"))
        try:
            process = stack.enter_context(
                MediaProcess(
                    command(path, times, seek_s, info, keys, options, writing),
                    timeout_s=options.timeout_s,
                    memory_mib=options.memory_mib,
                    pass_fds=(writing,),
                )
            )
        finally:
            os.close(writing)  # ours: the program's end must be the pipe's end
        count = 0
        # The time of a frame is written before its pixels, and all times of a stretch fit into
        # the pipe: the two never wait for each other.
        while len(sheet := process.read(size)) == size:
            time_s = _next_time(clock) - info.start_s
            count += 1
            yield VideoFrame(time_s, _cut(sheet, keys))
            if time_s >= times[-1] - SAME_S:
                return  # the rest of the file would be decoded for nothing
        code = process.finish()
        if count == 0:
            last = process.tail.splitlines()[-1:] or ["nothing was said"]
            raise MediaError(f"no frame can be read ({code}): {last[0][:200]}")


def command(
    path: Path,
    times: Sequence[float],
    seek_s: float,
    info: VideoInfo,
    keys: Sequence[InputKey],
    options: ReadOptions,
    clock_fd: int,
) -> list[str]:
    """The argv of ffmpeg: frames side by side on standard output, their times on `clock_fd`.

    Time stamps stay those of the file: nothing has to be known of where a seek has landed.
    """
    given: dict[str, object] = {}
    if options.skip != "none":
        given["skip_frame"] = options.skip
    if not any(name in INDEXED for name in info.container.split(",")):
        seek_s -= EARLIER_S
    if seek_s > 0:
        given |= {"noaccurate_seek": None, "ss": f"{seek_s:.6f}"}
    picked = (
        picture(path, info, options, **given)
        .filter("select", expression([info.start_s + time_s for time_s in times]))
        .filter("settb", "1/1000000")
        # Only frames with some metadata are told.
        .filter("metadata", mode="add", key="k", value="1")
        .filter("metadata", mode="print", file=f"pipe:{clock_fd}", direct=1)
    )
    branches = picked.filter_multi_output("split", len(keys)) if len(keys) > 1 else [picked]
    sheet = _side_by_side([_scaled(branches[i], key) for i, key in enumerate(keys)], keys)
    output = ffmpeg.output(
        sheet,
        "pipe:1",
        format="rawvideo",
        pix_fmt="rgb24",
        fps_mode="passthrough",
        flush_packets=1,
    )
    words: list[str] = output.global_args(
        "-nostdin", "-hide_banner", "-v", "error", "-filter_threads", "1"
    ).compile(cmd=options.program)
    return words


def picture(
    path: Path, info: VideoInfo, options: ReadOptions, **more: object
) -> ffmpeg.nodes.FilterableStream:
    """The video of a local file as ffmpeg may read it: that file alone, one thread, its own time
    stamps, the stream that was probed."""
    file = ffmpeg.input(
        str(path.resolve()),
        copyts=None,
        protocol_whitelist="file,pipe",
        format_whitelist=",".join(FORMATS),
        max_pixels=options.max_pixels,
        threads=1,
        **more,
    )
    return file[str(info.stream)]


def expression(times: Sequence[float]) -> str:
    """ffmpeg's `select` expression for the first frame at or after each time.

    And for all that follow the last one: `hstack` gives a frame when the next one is there.
    """
    terms = []
    for time in times:
        bound = time - SAME_S
        terms.append(f"gte(t,{bound:.6f})*(isnan(prev_selected_t)+lt(prev_selected_t,{bound:.6f}))")
    return _sum([*terms, f"gte(prev_selected_t,{times[-1] - SAME_S:.6f})"])


def _sum(terms: Sequence[str]) -> str:
    """a+b+…, in brackets by halves: ffmpeg's parser gives up below a hundred nested sums."""
    if len(terms) == 1:
        return terms[0]
    half = len(terms) // 2
    return f"({_sum(terms[:half])}+{_sum(terms[half:])})"


def _scaled(branch: ffmpeg.nodes.FilterableStream, key: InputKey) -> ffmpeg.nodes.FilterableStream:
    flags = f"{_FLAGS[key.interpolation]}+accurate_rnd+full_chroma_int"
    return branch.filter("scale", key.width, key.height, flags=flags).filter("format", "rgb24")


def _side_by_side(
    scaled: Sequence[ffmpeg.nodes.FilterableStream], keys: Sequence[InputKey]
) -> ffmpeg.nodes.FilterableStream:
    """One sheet a frame, so that one pipe carries every size."""
    height = max(key.height for key in keys)
    padded = [
        one.filter("pad", key.width, height) if key.height < height else one
        for one, key in zip(scaled, keys, strict=True)
    ]
    return ffmpeg.filter(padded, "hstack", inputs=len(padded)) if len(padded) > 1 else padded[0]


def _sheet_bytes(keys: Sequence[InputKey]) -> int:
    return sum(key.width for key in keys) * max(key.height for key in keys) * 3


def _cut(sheet: bytes, keys: Sequence[InputKey]) -> dict[InputKey, NDArray[np.uint8]]:
    height = max(key.height for key in keys)
    pixels = np.frombuffer(sheet, np.uint8).reshape(height, -1, 3)
    cut = {}
    left = 0
    for key in keys:
        cut[key] = np.ascontiguousarray(pixels[: key.height, left : left + key.width])
        left += key.width
    return cut


def _next_time(clock: IO[bytes]) -> float:
    """Seconds of the next frame, from the lines of ffmpeg's `metadata=print`."""
    for line in clock:
        found = _CLOCK.match(line)
        if found:
            return int(found[1]) / 1_000_000
    raise MediaError("ffmpeg gave a frame without its time")
