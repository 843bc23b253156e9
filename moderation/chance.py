"""How sure a counted share is. In the standard library alone."""

from __future__ import annotations

import math
from typing import Final

Interval = tuple[float, float]
Z95: Final = 1.959963984540054


def wilson(hits: int, count: int) -> Interval:
    """95 % interval of a proportion (Wilson 1927); (0, 1) for a count of none."""
    if count == 0:
        return (0.0, 1.0)
    share, square = hits / count, Z95 * Z95
    centre = share + square / (2 * count)
    spread = Z95 * math.sqrt(share * (1 - share) / count + square / (4 * count * count))
    scale = 1 + square / count
    low = (centre - spread) / scale if hits else 0.0  # exact: rounding leaves 1e-17
    high = (centre + spread) / scale if hits < count else 1.0
    return (low, high)
