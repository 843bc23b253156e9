"""Films with their frame numbers drawn in, and the reader that tells which frame is shown.

The number stands in eight upright bars, lowest bit at the left, white for 1; below the middle
the same once more, inverted, so that a picture which is none of these is not taken for one. Bars
survive lossy coding, and scaling to whatever size.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moderation.types import InputKey
from moderation.video.dedupe import DedupeOptions
from moderation.video.ffmpeg import program
from moderation.video.look import look
from moderation.video.probe import Probed
from moderation.video.sampling import cut
from moderation.video.source import ReadOptions

BITS = 8
KEY = InputKey(224, 224)
EVERY = DedupeOptions(max_distance=-1)
"""No frame is left out as a near-duplicate: it is the numbers that are compared."""


def write(path: Path, frames: int, *, size: tuple[int, int] = (320, 240), fps: str = "25") -> Path:
    """Uncompressed: a .y4m file of 4:2:0."""
    width, height = size
    columns = np.minimum(np.arange(width) * BITS // width, BITS - 1)
    chroma = bytes([128]) * (2 * ((width + 1) // 2) * ((height + 1) // 2))
    rate = fps.replace("/", ":") if "/" in fps else f"{fps}:1"
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{width} H{height} F{rate} Ip A1:1 C420jpeg\n".encode())
        for number in range(frames):
            line = np.where(number >> columns & 1, 235, 16).astype(np.uint8)
            upper = np.tile(line, (height // 2, 1)).tobytes()
            lower = np.tile(251 - line, (height - height // 2, 1)).tobytes()
            file.write(b"FRAME\n" + upper + lower + chroma)
    return path


def number(pixels: NDArray[np.uint8]) -> int | None:
    """The number in a picture as shown; None where there is none to be read."""
    grey = pixels.astype(np.float64).mean(axis=2)
    height, width = grey.shape
    side = width / BITS
    bars = [slice(round((i + 0.3) * side), round((i + 0.7) * side)) for i in range(BITS)]
    upper = [grey[height // 8 : 3 * height // 8, bar].mean() for bar in bars]
    lower = [grey[5 * height // 8 : 7 * height // 8, bar].mean() for bar in bars]
    if any(abs(a - b) < 40 for a, b in zip(upper, lower, strict=True)):
        return None
    return sum((a > b) << i for i, (a, b) in enumerate(zip(upper, lower, strict=True)))


def shown(
    path: Path, probed: Probed, moments: Sequence[float], *, exact: bool = True
) -> list[tuple[float | None, int | None]]:
    """For each moment, the own time of the frame that stands for it, and the number in it."""
    found: list[tuple[float | None, int | None]] = []
    for chunk in cut(moments, probed.index, exact=exact):
        pack = look(path, chunk, probed.info, (KEY,), ReadOptions(program()), EVERY)
        numbers = {
            told.time_s: number(pixels)
            for told, pixels in zip(pack.hashes, pack.pixels[KEY], strict=True)
        }
        found += [
            (one.shown_s, None if one.shown_s is None else numbers[one.shown_s])
            for one in pack.looks
        ]
    return found
