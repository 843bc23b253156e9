"""When a live frame was captured, as well as its arrival and its time stamp tell.

A source sends in bursts (a playlist's segment at once) and late; its time stamps are even, but
begin anywhere, jump, and run a little faster or slower than our clock. The frame that travelled
fastest of those seen lately tells how the two are related; a later one was captured as long before
its arrival as it took longer.
"""

from __future__ import annotations

import time
from collections.abc import Callable

JUMP_S = 30.0
"""A time stamp that is off by more begins a new count. Playlists come in bursts of up to this."""

SPAN_S = 60.0
"""For how long at least the fastest frame counts, twice that at most: two clocks drift apart."""

STEP_S = 0.001
"""Least difference of two capture times: they always ascend."""


def steady_utc() -> Callable[[], float]:
    """A clock of seconds UTC that never steps back, whatever happens to the system's: it reads that
    once. One for a process, so that its times can be compared."""
    offset_s = time.time() - time.monotonic()
    return lambda: time.monotonic() + offset_s


SET_S = 2.0
"""The system's clock was set, or the machine slept, where it is off by more from a steady one."""


def was_set(steady_s: float, system_s: float | None = None) -> bool:
    """Whether the system's clock, in seconds UTC, has left a steady one. Times of alerts would be
    wrong from then on, and those of files would not fit them: who counts by it begins anew."""
    system_s = time.time() if system_s is None else system_s
    return abs(system_s - steady_s) > SET_S


class CaptureClock:
    """Capture times of one reader's frames, in seconds UTC. Not for several threads at once."""

    def __init__(self, *, after_s: float = 0.0) -> None:
        """after_s: no frame was captured at or before this: the last one of the reader before."""
        self._last_s = after_s
        self._last_stamp_s: float | None = None
        self._last_arrival_s = 0.0
        self._since_s = 0.0
        self._offset_s = 0.0
        self._next_offset_s = 0.0

    def captured(self, stamp_s: float, arrival_s: float) -> float:
        """stamp_s: the source's time stamp. arrival_s: UTC, of a clock that never steps back.

        The result is above the last one. It is not later than the arrival, except by the
        millisecond that ascending takes.
        """
        offset_s = arrival_s - stamp_s
        if self._jumped(stamp_s, arrival_s):
            self._since_s = arrival_s
            self._offset_s = self._next_offset_s = offset_s
        elif arrival_s - self._since_s >= SPAN_S:
            self._since_s = arrival_s
            self._offset_s, self._next_offset_s = min(self._next_offset_s, offset_s), offset_s
        else:
            self._offset_s = min(self._offset_s, offset_s)
            self._next_offset_s = min(self._next_offset_s, offset_s)
        self._last_stamp_s, self._last_arrival_s = stamp_s, arrival_s
        self._last_s = max(self._last_s + STEP_S, stamp_s + self._offset_s)
        return self._last_s

    def _jumped(self, stamp_s: float, arrival_s: float) -> bool:
        if self._last_stamp_s is None:
            return True
        if stamp_s <= self._last_stamp_s:
            return True
        # Against the clock: a source that was silent for a minute has not jumped by a minute.
        passed_s = arrival_s - self._last_arrival_s
        ahead_s = stamp_s - self._last_stamp_s - passed_s
        late_s = arrival_s - (stamp_s + self._offset_s)
        return ahead_s > JUMP_S or late_s > JUMP_S
