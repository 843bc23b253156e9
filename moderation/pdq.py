"""PDQ: a 256-bit hash that near-identical pictures share, within some 31 bits.

An own implementation of the published algorithm ("The TMK+PDQF video-hashing algorithm and
the PDQ image-hashing algorithm", 2019), in numpy and OpenCV. The MIT-licensed `pdqhash`
package gives the same hashes and serves the tests as a check, but has no wheel for every
platform that we install on and cannot be built from its source archive everywhere.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 512
"""Larger pictures are first shrunk to this side, as the algorithm's authors do."""

_LUMA = 64
_DCT = 16


def pdq_hash(rgb: NDArray[np.uint8]) -> tuple[str, int]:
    """Hash and quality of a picture (height, width, 3), uint8 RGB.

    The hash is 64 hexadecimal digits; quality 0..100, below 50 the picture is too plain for
    the hash to mean much.
    """
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    height, width = grey.shape
    if max(height, width) > SIDE:
        grey = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        height = width = SIDE
    luma = _decimate(_tent(np.asarray(grey, np.float32)))
    matrix = _dct_matrix()
    # Coefficients of a plain picture are zero but for rounding, which differs between processors;
    # so much less than a grey level means nothing.
    block = np.round(matrix @ luma.astype(np.float64) @ matrix.T, 3)
    # Median by rank, not the mean of the middle two: the algorithm's own choice.
    median = np.partition(block, block.size // 2 - 1, axis=None)[block.size // 2 - 1]
    bits = (block > median).reshape(-1)
    # Bit 0 (lowest frequency) is the last of the hash.
    return np.packbits(bits[::-1]).tobytes().hex(), _quality(luma)


def _window(dimension: int) -> int:
    return (dimension + 2 * _LUMA - 1) // (2 * _LUMA)


def _tent(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """Two box filters; at the border the mean is over the pixels that exist."""
    height, width = grey.shape
    across, down = _window(width), _window(height)
    # A window of even size reaches one pixel further to the right and down.
    anchor = ((across - 1) // 2, (down - 1) // 2)

    def sums(values: NDArray[np.float32]) -> NDArray[np.float32]:
        summed = cv2.boxFilter(
            values,
            -1,
            (across, down),
            anchor=anchor,
            normalize=False,
            borderType=cv2.BORDER_CONSTANT,
        )
        return np.asarray(summed, np.float32)

    weights = np.outer(_covered(height, down), _covered(width, across))
    for _ in range(2):
        grey = sums(grey) / weights
    return grey


def _covered(length: int, window: int) -> NDArray[np.float32]:
    """How many pixels of a line lie in the window around each of its pixels."""
    start = np.arange(length) - (window - 1) // 2
    covered = np.minimum(start + window, length) - np.maximum(start, 0)
    return covered.astype(np.float32)


def _decimate(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    height, width = grey.shape
    centres = np.arange(_LUMA) + 0.5
    rows = (centres * height / _LUMA).astype(np.intp)
    columns = (centres * width / _LUMA).astype(np.intp)
    chosen: NDArray[np.float32] = grey[np.ix_(rows, columns)]
    return chosen


def _dct_matrix() -> NDArray[np.float64]:
    """Rows 1..16 of the 64-point DCT: the constant term is left out."""
    frequency = np.arange(1, _DCT + 1)[:, None]
    sample = 2 * np.arange(_LUMA)[None, :] + 1
    matrix = np.sqrt(2 / _LUMA) * np.cos(np.pi / (2 * _LUMA) * frequency * sample)
    return np.asarray(matrix, np.float64)


def _quality(luma: NDArray[np.float32]) -> int:
    """How much the picture varies: the sum of steps between neighbours, capped."""
    steps = sum(
        int(np.abs(np.trunc(np.diff(luma, axis=axis) * 100 / 255)).sum()) for axis in (0, 1)
    )
    return min(100, steps // 90)
