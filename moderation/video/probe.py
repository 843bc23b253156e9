"""What a video file is, learnt in a child that may be killed."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from moderation.errors import MediaError, UnsupportedMediaError
from moderation.video.ffmpeg import MediaProcess
from moderation.video.index import FrameIndex
from moderation.video.limits import MAX_FRAMES

MAX_ANSWER = 9 * MAX_FRAMES + 64 * 1024
CODES = (
    "no_video",
    "too_many_pixels",
    "too_many_frames",
    "encrypted",
    "corrupt",
    "decode_memory",
)


@dataclass(frozen=True, slots=True)
class ProbeLimits:
    """seconds of video, pixels of a frame, seconds and MiB that looking may take. bytes_per_s:
    a file that is larger than so many for a second may take that much longer: all of it is read.
    """

    max_duration_s: float = 6 * 3600.0
    max_pixels: int = 100_000_000
    timeout_s: float = 20.0
    bytes_per_s: float = 20e6
    memory_mib: int = 2048


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """Facts of a file's video track. Sizes in pixels as shown, after rotation.

    held_s: when the last frame goes that the file holds. duration_s: the same, or what the file
    claims where that is clearly longer: it was cut off, or it lies. start_s: the time stamp at
    which the presentation begins, and at which all other times are 0. frames: how many it holds.
    audio: codecs of the sound tracks. stream: which of the file's streams this is; tracks: how
    many moving pictures the file holds, of which the others are not looked at.
    """

    container: str
    codec: str
    pixel_format: str
    width: int
    height: int
    rotation: int
    held_s: float
    duration_s: float
    start_s: float
    frames: int
    audio: tuple[str, ...]
    size_bytes: int
    stream: int = 0
    tracks: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Probed:
    """What a file is, and when each of its frames is shown."""

    info: VideoInfo
    index: FrameIndex


def probe(path: Path, limits: ProbeLimits) -> Probed:
    """Open the file, decode its first frame and list all of them, in a child.

    Raises MediaError: empty_file, corrupt, no_video, encrypted, too_many_pixels,
    too_many_frames, too_long, decode_timeout, decode_memory, decode_crashed.
    """
    size = path.stat().st_size
    if size == 0:
        raise MediaError("the file is empty", code="empty_file")
    argv = [sys.executable, "-P", "-m", "moderation.video.probe_child"]
    with MediaProcess(
        [*argv, str(path.resolve()), str(limits.max_pixels)],
        timeout_s=limits.timeout_s + size / limits.bytes_per_s,
        memory_mib=limits.memory_mib,
    ) as child:
        answer = child.read_all(MAX_ANSWER)
        code = child.finish()
    if code != 0:
        raise MediaError(f"the file ended its reader (exit code {code})", code="decode_crashed")
    probed = parse(answer, size)
    if probed.info.duration_s > limits.max_duration_s:
        raise MediaError(
            f"the video is {probed.info.duration_s:.0f} s long, or says so; "
            f"{limits.max_duration_s:.0f} s are allowed",
            code="too_long",
        )
    return probed


def parse(answer: bytes, size: int) -> Probed:
    """The child's answer on a file of `size` bytes, checked: a hostile file may have taken the
    child over. Raises MediaError."""
    try:
        line, _, frames = answer.partition(b"\n")
        told = json.loads(line)
        if "video" not in told:
            raise _refusal(told)
        facts = told["video"]
        held_s = _seconds(facts["held_s"])
        claimed = facts["duration_s"]
        index = _index(frames, _count(facts["frames"]), held_s)
        info = VideoInfo(
            container=_text(facts["container"]),
            codec=_text(facts["codec"]),
            pixel_format=_text(facts["pixel_format"]),
            width=_count(facts["width"]),
            height=_count(facts["height"]),
            rotation=int(facts["rotation"]) % 360,
            held_s=held_s,
            duration_s=held_s if claimed is None else max(held_s, _seconds(claimed)),
            start_s=_finite(facts["start_s"]),
            frames=len(index),
            audio=tuple(_text(name) for name in facts["audio"]),
            size_bytes=size,
            stream=_count(facts["stream"] + 1) - 1,
            tracks=_count(facts["tracks"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise MediaError("the file confused its reader", code="decode_crashed") from error
    return Probed(info, index)


def _index(data: bytes, count: int, end_s: float) -> FrameIndex:
    times = np.frombuffer(data, np.float64, count)
    keys = np.frombuffer(data, np.uint8, count, offset=8 * count)
    ascending = np.isfinite(times).all() and (np.diff(times) > 0).all()
    if len(data) != 9 * count or not ascending or not times[-1] < end_s or keys.max() > 1:
        raise ValueError("frames")
    return FrameIndex(times, keys.astype(np.bool_), end_s)


def _refusal(told: dict[str, Any]) -> MediaError:
    code, detail = told["code"], str(told["detail"])[:300]
    if code not in CODES:
        raise ValueError(code)
    kind = UnsupportedMediaError if code in ("no_video", "encrypted") else MediaError
    return kind(detail, code=code)


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError(value)
    return value[:80]


def _count(value: object) -> int:
    if not isinstance(value, int) or value < 1:
        raise ValueError(value)
    return value


def _finite(value: object) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(value)
    return float(value)


def _seconds(value: object) -> float:
    """Above zero: files claim zero, infinity and less."""
    found = _finite(value)
    if found <= 0:
        raise ValueError(value)
    return found
