"""Frames that come in a burst go on one after the other.

A playlist gives a segment at once: six seconds and more of a stream within moments. The newest
frame of a stream replaces the one that waits, so all but the last would go unseen.
"""

from __future__ import annotations

from typing import Final

RATE: Final = 1.5
"""How much faster than they were captured the frames of a burst go on: the next one finds the last
one gone. Of a segment of 15 s the first frame is 5 s old then, and nearly too late."""


class Pace:
    """Of one stream. Not for several threads at once. interval_s: between two frames."""

    def __init__(self, interval_s: float) -> None:
        self._gap_s = interval_s / RATE
        self._next_s = 0.0

    def wait_s(self, now_s: float) -> float:
        """How long a frame that is here now is to be held back; 0 where the one before went on long
        enough ago. now_s: of any clock that never steps back."""
        goes_s = max(now_s, self._next_s)
        self._next_s = goes_s + self._gap_s
        return goes_s - now_s
