"""What a supervisor counts, for `/metrics`."""

from __future__ import annotations

import threading
from bisect import bisect_left
from dataclasses import dataclass

BUCKETS_S = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
"""Upper bounds of the histogram of seconds from a frame's capture to its alert."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one supervisor, since it started, but for what is said to be of now.

    scored, dropped: frames. alerts: how many were opened within each of BUCKETS_S and above all of
    them (not summed up); alert_s: the sum of their seconds. streams, under_way (packs), age_s (of
    the oldest frame that waits), share (of the frames that were scored lately, 0 to 1): of now.
    """

    scored: int
    dropped: int
    alerts: tuple[int, ...]
    alert_s: float
    streams: int = 0
    under_way: int = 0
    age_s: float = 0.0
    share: float = 1.0


class Counting:
    """Counts up. Any thread may call any method."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._scored = self._dropped = 0
        self._alerts = [0] * (len(BUCKETS_S) + 1)
        self._alert_s = 0.0

    def frames(self, *, scored: int = 0, dropped: int = 0) -> None:
        with self._lock:
            self._scored += scored
            self._dropped += dropped

    def alert(self, seconds: float) -> None:
        """One was opened so long after its frame had been captured."""
        with self._lock:
            self._alerts[bisect_left(BUCKETS_S, seconds)] += 1
            self._alert_s += seconds

    def figures(
        self, *, streams: int, under_way: int, age_s: float, share: float, overtaken: int
    ) -> Figures:
        """overtaken: frames that were dropped before they were sent."""
        with self._lock:
            return Figures(
                self._scored,
                self._dropped + overtaken,
                tuple(self._alerts),
                self._alert_s,
                streams,
                under_way,
                age_s,
                share,
            )
