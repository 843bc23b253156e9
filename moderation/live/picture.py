"""Whether a picture can mean anything: black, colour bars, or the same for long. Pure numpy.

A stream whose camera died often goes on in good order, and shows one of these.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 64, 36
"""Cells of a small grey picture."""

BLACK_MEAN = 20.0
BLACK_SPREAD = 4.0
"""Grey levels of 255: black as video has it is 16 where its range was not read, noise is below."""

SAME_LEVELS = 4.0
"""The greatest change of a cell that still counts as none: what a coder's key frames do to a still
picture, and a sensor's noise once it is averaged."""

BAR_LEVELS = 6.0
"""What a cell of a bar may differ from the bar, and the least step from a bar to the next."""
BAR_STEPS = 6
"""White (or grey), yellow, cyan, green, magenta, red, blue: six steps down."""
BAR_FALL = 90.0
BAR_WIDTH = 3


class Meaningless(StrEnum):
    BLACK = "black"
    BARS = "colour bars"
    FROZEN = "frozen"


def small_grey(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(height, width, 3) RGB of at least 64 x 36 -> (36, 64) of grey levels, each cell the mean of
    its part of the picture. Raises ValueError for a smaller one."""
    height, width = rgb.shape[:2]
    if height < HEIGHT or width < WIDTH:
        raise ValueError(f"{width} x {height} has fewer pixels than {WIDTH} x {HEIGHT} cells")
    rows = np.arange(HEIGHT) * height // HEIGHT
    columns = np.arange(WIDTH) * width // WIDTH
    sums = np.add.reduceat(np.add.reduceat(rgb, rows, 0, np.uint32), columns, 1, np.uint32)
    counts = np.outer(np.diff(rows, append=height), np.diff(columns, append=width))
    grey = sums @ np.array([0.299, 0.587, 0.114], np.float32)
    return (grey / counts).astype(np.float32)


def difference(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """The greatest change of a cell, in grey levels, 0..255: a mean would hide what is small."""
    return float(np.abs(one - other).max())


def is_black(grey: NDArray[np.float32]) -> bool:
    """Dark all over. A lamp in the dark is none: one cell is enough."""
    return float(grey.mean()) <= BLACK_MEAN and float(np.ptp(grey)) <= 2 * BLACK_SPREAD


def is_bars(grey: NDArray[np.float32]) -> bool:
    """Upright bars, each darker than the one before, as in the test pictures of SMPTE and EBU. What
    stands below them (a caption, a grey scale) is not looked at."""
    upper = grey[2 : HEIGHT // 2]
    profile = np.median(upper, axis=0)
    # A cell across the border of two bars is neither.
    even = np.abs(upper - profile).max(axis=0) <= BAR_LEVELS
    return _longest_fall(_levels(profile, even)) >= BAR_STEPS


def _levels(profile: NDArray[np.float32], even: NDArray[np.bool_]) -> list[float]:
    """Levels of the stretches of equal columns, from left to right."""
    levels: list[float] = []
    start = 0
    for at in range(1, len(profile) + 1):
        if at < len(profile) and abs(profile[at] - profile[start]) < BAR_LEVELS:
            continue
        if at - start >= BAR_WIDTH and bool(even[start:at].all()):
            levels.append(float(profile[start:at].mean()))
        start = at
    return levels


def _longest_fall(levels: list[float]) -> int:
    """Steps of the longest run of falling levels that falls far enough."""
    best, first = 0, 0
    for at in range(1, len(levels)):
        if levels[at] > levels[at - 1] - BAR_LEVELS:
            first = at
        elif levels[first] - levels[at] >= BAR_FALL:
            best = max(best, at - first)
    return best


class PictureWatch:
    """Tells what is wrong with each frame of one stream. Not for several threads at once.

    A frame is compared with the last one that was new, not with the one before it, so that a slow
    change adds up until it is seen.
    """

    def __init__(self) -> None:
        self._new: NDArray[np.float32] | None = None

    def add(self, grey: NDArray[np.float32]) -> Meaningless | None:
        """FROZEN for any frame that shows what an earlier one showed; only the time for which it
        lasts makes it a fault."""
        last = self._new
        same = last is not None and difference(grey, last) <= SAME_LEVELS
        if not same:
            self._new = grey
        if is_black(grey):
            return Meaningless.BLACK
        if is_bars(grey):
            return Meaningless.BARS
        return Meaningless.FROZEN if same else None
