"""Pixels -> small WebP pictures for people, clear or covered.

What people look at is always made anew from pixels: no byte of an upload, nor its metadata, is
passed on.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from moderation.types import DecodedImage

Pixels = NDArray[np.uint8]

MAX_SIDE = 640
COVERED_SIDE = 12
"""Longer side, in pixels, of all that is left of a covered picture."""
QUALITY = 75


def fit(width: int, height: int, max_side: int) -> tuple[int, int]:
    """The size within a square of `max_side`, in the same shape; never larger than it was."""
    longer = max(width, height)
    if longer <= max_side:
        return width, height
    return max(1, round(width * max_side / longer)), max(1, round(height * max_side / longer))


def reshape(pixels: Pixels, width: int, height: int) -> Pixels:
    """The picture stretched to a size, smooth in both directions."""
    shrinks = width * height < pixels.shape[0] * pixels.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=how), np.uint8)


def whole(decoded: DecodedImage, frame: int = 0) -> Pixels:
    """The whole of one frame of a decoded picture (the first where that was not sampled), in its
    own shape: it was stretched to the layout's. No larger than that, nor than it was."""
    key = next(iter(decoded.pixels))
    views = [i for i, view in enumerate(decoded.views) if view.box == (0.0, 0.0, 1.0, 1.0)]
    chosen = next((i for i in views if decoded.views[i].frame == frame), views[0])
    width, height = fit(decoded.info.width, decoded.info.height, max(key.width, key.height))
    return reshape(np.asarray(decoded.pixels[key][chosen]), width, height)


def cover(pixels: Pixels) -> Pixels:
    """Grey, and without anything smaller than a twelfth of the picture: nothing is left to
    recognise, and no filter brings it back."""
    height, width = pixels.shape[:2]
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, fit(width, height, COVERED_SIDE), interpolation=cv2.INTER_AREA)
    large = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(cv2.cvtColor(large, cv2.COLOR_GRAY2RGB), np.uint8)


def webp(pixels: Pixels, *, max_side: int = MAX_SIDE, covered: bool = False) -> bytes:
    """A WebP picture of (height, width, 3) uint8 RGB, at most `max_side` long, without
    metadata."""
    height, width = pixels.shape[:2]
    size = fit(width, height, max_side)
    small = pixels if size == (width, height) else reshape(pixels, *size)
    shown = cover(small) if covered else small
    done, data = cv2.imencode(
        ".webp", cv2.cvtColor(shown, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, QUALITY]
    )
    if not done:
        raise RuntimeError("OpenCV wrote no WebP")  # it has no other way to say so
    return data.tobytes()
