"""What a video file is, learnt in a child that may be killed."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moderation.errors import MediaError, UnsupportedMediaError
from moderation.video.ffmpeg import MediaProcess

MAX_ANSWER = 64 * 1024
CODES = ("no_video", "too_many_pixels", "encrypted", "corrupt", "decode_memory")


@dataclass(frozen=True, slots=True)
class ProbeLimits:
    """seconds of video, pixels of a frame, seconds and MiB that looking may take."""

    max_duration_s: float = 6 * 3600.0
    max_pixels: int = 100_000_000
    timeout_s: float = 20.0
    memory_mib: int = 2048


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """Facts of a file's video track. Sizes in pixels as shown, after rotation.

    duration_s: as the file claims it, which may be wrong; None where it claims nothing.
    fps: average rate, None where unknown. start_s: time of the first frame. audio: codecs of
    the sound tracks.
    """

    container: str
    codec: str
    pixel_format: str
    width: int
    height: int
    rotation: int
    duration_s: float | None
    fps: float | None
    start_s: float
    audio: tuple[str, ...]
    size_bytes: int


def probe(path: Path, limits: ProbeLimits) -> VideoInfo:
    """Open the file and decode its first frame, in a child.

    Raises MediaError: empty_file, corrupt, no_video, encrypted, too_many_pixels, too_long,
    decode_timeout, decode_memory, decode_crashed.
    """
    size = path.stat().st_size
    if size == 0:
        raise MediaError("the file is empty", code="empty_file")
    argv = [sys.executable, "-P", "-m", "moderation.video.probe_child"]
    with MediaProcess(
        [*argv, str(path.resolve()), str(limits.max_pixels)],
        timeout_s=limits.timeout_s,
        memory_mib=limits.memory_mib,
    ) as child:
        answer = child.read_all(MAX_ANSWER)
        code = child.finish()
    if code != 0:
        raise MediaError(f"the file ended its reader (exit code {code})", code="decode_crashed")
    info = _info(answer, size)
    if info.duration_s is not None and info.duration_s > limits.max_duration_s:
        raise MediaError(
            f"the video claims {info.duration_s:.0f} s; {limits.max_duration_s:.0f} s are allowed",
            code="too_long",
        )
    return info


def _info(answer: bytes, size: int) -> VideoInfo:
    """The child's answer, checked: a hostile file may have taken the child over."""
    try:
        told = json.loads(answer)
        if "video" not in told:
            raise _refusal(told)
        facts = told["video"]
        return VideoInfo(
            container=_text(facts["container"]),
            codec=_text(facts["codec"]),
            pixel_format=_text(facts["pixel_format"]),
            width=_count(facts["width"]),
            height=_count(facts["height"]),
            rotation=int(facts["rotation"]) % 360,
            duration_s=_seconds(facts["duration_s"]),
            fps=_seconds(facts["fps"]),
            start_s=_seconds(facts["start_s"]) or 0.0,
            audio=tuple(_text(name) for name in facts["audio"]),
            size_bytes=size,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise MediaError("the file confused its reader", code="decode_crashed") from error


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


def _seconds(value: object) -> float | None:
    """A finite number above zero, or None: files claim zero, infinity and less."""
    if value is None:
        return None
    if not isinstance(value, int | float):
        raise TypeError(value)
    return float(value) if math.isfinite(value) and value > 0 else None
