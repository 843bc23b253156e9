"""Frames of live streams that need no scores of their own: they look like one that has them.

As with films (`video.dedupe`): a slide or a fixed camera is not looked at anew every second, and no
frame goes longer than `force_s` without a fresh look.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from moderation.live_queue import Peaks
from moderation.video.dedupe import DedupeOptions, Deduper, FrameHash

FORGOTTEN_S = 60.0
"""A stream without a frame for so long begins anew."""


@dataclass(slots=True)
class _Stream:
    """source_s: capture time of the frame that later ones are compared with; peaks: its scores,
    once they are back."""

    deduper: Deduper
    last_s: float
    source_s: float = 0.0
    peaks: Peaks | None = None


class Alike:
    """The scores that frames may share, by stream. Any thread may call any method."""

    def __init__(self, options: DedupeOptions) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._streams: dict[str, _Stream] = {}

    def shared(self, stream: str, frame: FrameHash) -> Peaks | None:
        """The scores of the frame that this one looks like; None: it needs its own, also where
        those of that frame are not back yet. frame.time_s: its capture time."""
        with self._lock:
            known = self._streams.get(stream)
            if known is None or not known.last_s < frame.time_s < known.last_s + FORGOTTEN_S:
                self._forget(frame.time_s)
                known = self._streams[stream] = _Stream(Deduper(self._options), frame.time_s)
            known.last_s = frame.time_s
            choice = known.deduper.add(frame)
            if choice.kept:
                known.source_s, known.peaks = frame.time_s, None
            return known.peaks

    def scored(self, stream: str, captured_s: float, peaks: Peaks) -> None:
        """A frame came back with scores of its own."""
        with self._lock:
            known = self._streams.get(stream)
            if known is not None and captured_s == known.source_s:
                known.peaks = peaks

    def _forget(self, now_s: float) -> None:
        old = [name for name, one in self._streams.items() if one.last_s < now_s - FORGOTTEN_S]
        for name in old:
            del self._streams[name]
