"""Which frames and which rectangles of a picture are looked at. Pure functions.

Every pixel of every chosen frame lies in at least one rectangle, whatever the limits.
"""

from __future__ import annotations

import math

Span = tuple[int, int]
Rect = tuple[int, int, int, int]
"""left, top, right, bottom in pixels; right and bottom are excluded."""

LONG_ASPECT = 2.0
OVERLAP = 0.25


def sample_frames(total: int, limit: int) -> tuple[int, ...]:
    """Indices of at most `limit` frames out of `total` >= 1, evenly spread, rising.

    The first and the last frame always, so at least two of two or more frames.
    """
    count = min(total, max(limit, 2))
    if count == 1:
        return (0,)
    return tuple(round(i * (total - 1) / (count - 1)) for i in range(count))


def tile_spans(length: int, breadth: int, limit: int) -> tuple[Span, ...]:
    """Spans [start, end) along the long side that cover 0..length.

    Squares (span = breadth) that overlap by at least a quarter. Where that makes more than
    `limit` >= 1 spans, longer ones, still even and overlapping by about a quarter.
    """
    if length <= breadth or limit <= 1:
        return ((0, length),)
    tile, step = breadth, breadth * (1 - OVERLAP)
    count = math.ceil((length - tile) / step) + 1
    if count > limit:
        count = limit
        tile = math.ceil(length / (1 + (1 - OVERLAP) * (count - 1)))
    starts = (round(i * (length - tile) / (count - 1)) for i in range(count))
    return tuple((start, start + tile) for start in starts)


def rectangles(width: int, height: int, limit: int) -> tuple[Rect, ...]:
    """The whole picture, and for one longer than 2:1 the tiles along it.

    At most `limit` >= 1 rectangles; the whole is always the first.
    """
    whole = (0, 0, width, height)
    if max(width, height) <= LONG_ASPECT * min(width, height) or limit < 3:
        return (whole,)
    if width > height:
        spans = tile_spans(width, height, limit - 1)
        return (whole, *((start, 0, end, height) for start, end in spans))
    spans = tile_spans(height, width, limit - 1)
    return (whole, *((0, start, width, end) for start, end in spans))
