"""A learning curve in characters, for a terminal and a log."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

LEVELS = " ▁▂▃▄▅▆▇█"


def curve(values: Sequence[float], width: int = 60, height: int = 6) -> list[str]:
    """Lines of a bar chart, the highest value on top, at most `width` columns, each the mean of
    its part; the scale stands at the left. Empty for nothing. Values have to be finite."""
    if not values:
        return []
    columns = _columns(values, min(width, len(values)))
    top, low = max(columns), min(0.0, *columns)
    span = (top - low) or 1.0
    steps = len(LEVELS) - 1
    filled = [round((value - low) / span * height * steps) for value in columns]
    lines = []
    for row in reversed(range(height)):
        scale = low + span * (row + 1) / height
        bars = (LEVELS[min(max(count - row * steps, 0), steps)] for count in filled)
        lines.append(f"{scale:8.3g} |{''.join(bars)}")
    return lines


def _columns(values: Sequence[float], count: int) -> list[float]:
    edges = [math.floor(i * len(values) / count) for i in range(count + 1)]
    return [sum(values[low:high]) / (high - low) for low, high in pairwise(edges)]
