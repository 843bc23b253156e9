"""One frame of a video as a picture for people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moderation.errors import MediaError
from moderation.types import InputKey
from moderation.video.index import FrameIndex
from moderation.video.probe import VideoInfo
from moderation.video.source import ReadOptions, read_frames

USUAL_GOP_S = 12.0
"""How far back a key frame is looked for where nothing tells where they are."""


def still(
    path: Path,
    time_s: float,
    info: VideoInfo,
    reading: ReadOptions,
    *,
    max_side: int,
    index: FrameIndex | None = None,
) -> NDArray[np.uint8]:
    """The frame at a time (its own), RGB (height, width, 3), its longer side at most `max_side`.

    index: finds it faster. Raises MediaError where it cannot be read.
    """
    seek_s = max(0.0, time_s - USUAL_GOP_S) if index is None else index.seek_to(time_s)
    key = fitted(info.width, info.height, max_side)
    try:
        return _first(path, time_s, seek_s, info, key, reading)
    except MediaError:
        if seek_s == 0.0:
            raise
    return _first(path, time_s, 0.0, info, key, reading)


def fitted(width: int, height: int, max_side: int) -> InputKey:
    """The largest size of the same aspect with no side above `max_side`, never enlarged."""
    scale = min(1.0, max_side / max(width, height))
    return InputKey(max(1, round(width * scale)), max(1, round(height * scale)))


def _first(
    path: Path,
    time_s: float,
    seek_s: float,
    info: VideoInfo,
    key: InputKey,
    reading: ReadOptions,
) -> NDArray[np.uint8]:
    for frame in read_frames(path, [time_s], seek_s, info, [key], reading):
        return frame.pixels[key]
    raise MediaError("there is no such frame")
