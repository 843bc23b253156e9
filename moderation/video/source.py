"""Frames of a video file at asked times, at the sizes that the models read.

ffmpeg decodes, picks and scales; one process reads one stretch of the file and ends with it.
Every frame comes with its own time, not with the one that was asked for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, Literal

import ffmpeg
import numpy as np
from numpy.typing import NDArray

from moderation.errors import MediaError
from moderation.types import InputKey
from moderation.video.ffmpeg import MediaProcess
from moderation.video.probe_child import FORMATS

MAX_TIMES = 128
"""Asked times of one stretch: each is a term of the filter that picks frames."""

_LEAD_S = 0.001
"""Half a tick of the coarsest usual time base: times are told in rounded decimals."""
_FLAGS = {"area": "area", "bilinear": "bilinear", "bicubic": "bicubic"}


@dataclass(frozen=True, slots=True, eq=False)
class VideoFrame:
    """time_s: the frame's own, in seconds from the first frame. pixels: one array (height,
    width, 3) uint8 RGB for every asked key, of the whole frame as shown (rotated)."""

    time_s: float
    pixels: Mapping[InputKey, NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """program: ffmpeg. skip: "noref" leaves out frames that no other needs, which costs less
    and finds the nearest frame that is left. timeout_s, memory_mib, max_pixels: what one
    stretch may take."""

    program: str
    skip: Literal["none", "noref"] = "none"
    timeout_s: float = 120.0
    memory_mib: int = 2048
    max_pixels: int = 100_000_000


def read_frames(
    path: Path,
    times: Sequence[float],
    fps: float | None,
    keys: Sequence[InputKey],
    options: ReadOptions,
) -> Iterator[VideoFrame]:
    """The frame shown at each asked time, in order; each frame once.

    times: 1 to MAX_TIMES ascending seconds. fps: the file's average rate; None: unknown. Fewer
    frames than times come where two times fall into one frame, or where the file is damaged:
    compare the frames' own times. Close the iterator to end the program early. Raises
    MediaError when nothing at all can be read, and decode_timeout.
    """
    if not 1 <= len(times) <= MAX_TIMES or list(times) != sorted(times):
        raise ValueError(f"1 to {MAX_TIMES} ascending times, not {len(times)}")
    with ExitStack() as stack:
        reading, writing = os.pipe()
        clock = stack.enter_context(os.fdopen(reading, "rb"))
        try:
            process = stack.enter_context(
                MediaProcess(
                    command(path, times, fps, keys, options, writing),
                    timeout_s=options.timeout_s,
                    memory_mib=options.memory_mib,
                    pass_fds=(writing,),
                )
            )
        finally:
            os.close(writing)  # ours: the program's end must be the pipe's end
        count = 0
        for time_s in _times(clock, seek_to(times)):
            sheet = process.read(_sheet_bytes(keys))
            if len(sheet) < _sheet_bytes(keys):
                break
            count += 1
            yield VideoFrame(time_s, _cut(sheet, keys))
        process.read(0)  # the time limit is told even where the clock ended first
        code = process.finish()
        if count == 0:
            last = process.tail.splitlines()[-1:] or ["nothing was said"]
            raise MediaError(f"no frame can be read ({code}): {last[0][:200]}")


def command(
    path: Path,
    times: Sequence[float],
    fps: float | None,
    keys: Sequence[InputKey],
    options: ReadOptions,
    clock_fd: int,
) -> list[str]:
    """The argv of ffmpeg: frames side by side on standard output, their times on `clock_fd`."""
    start = seek_to(times)
    given = {
        "protocol_whitelist": "file,pipe",
        "format_whitelist": ",".join(FORMATS),
        "max_pixels": options.max_pixels,
        "threads": 1,
    }
    if options.skip != "none":
        given["skip_frame"] = options.skip
    if start > 0:
        given["ss"] = f"{start:.6f}"
    picked = ffmpeg.input(str(path.resolve()), **given).video.filter(
        "select", expression([time - start for time in times], fps)
    )
    branches = picked.filter_multi_output("split", len(keys) + 1)
    sheet = _side_by_side([_scaled(branches[i], key) for i, key in enumerate(keys)], keys)
    ticks = branches[len(keys)].filter("scale", 2, 2).filter("format", "gray")
    # The encoders' own time base would round times to the average frame rate.
    raw = {"fps_mode": "passthrough", "enc_time_base": "filter", "flush_packets": 1}
    frames = ffmpeg.output(sheet, "pipe:1", format="rawvideo", pix_fmt="rgb24", **raw)
    clock = ffmpeg.output(ticks, f"pipe:{clock_fd}", format="framecrc", **raw)
    both = ffmpeg.merge_outputs(frames, clock)
    words: list[str] = both.global_args("-nostdin", "-hide_banner", "-v", "error").compile(
        cmd=options.program
    )
    return words


def seek_to(times: Sequence[float]) -> float:
    """Where reading starts: just before the first time, 0 near the beginning."""
    return max(0.0, times[0] - 1.0)


def expression(times: Sequence[float], fps: float | None) -> str:
    """ffmpeg's `select` expression for the frame shown at each time.

    That is the first frame later than the time less the duration of one: frames come one by
    one, and nothing says yet when the next will.
    """
    terms = []
    for time in times:
        bound = time - lead_s(fps)
        terms.append(f"gt(t,{bound:.6f})*(isnan(prev_selected_t)+lte(prev_selected_t,{bound:.6f}))")
    return _sum(terms)


def lead_s(fps: float | None) -> float:
    """How much earlier than an asked time its frame may have begun, in seconds."""
    return max(0.0, 1.0 / fps - _LEAD_S) if fps else _LEAD_S


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


def _times(clock: IO[bytes], start_s: float) -> Iterator[float]:
    """Seconds of each frame, from ffmpeg's framecrc lines: `stream, dts, pts, duration, …`."""
    tick = Fraction(1)
    for line in clock:
        text = line.decode("ascii", "replace").strip()
        if text.startswith("#tb 0:"):
            tick = Fraction(text.partition(":")[2].strip())
        elif text and not text.startswith("#"):
            yield start_s + float(int(text.split(",")[2]) * tick)
