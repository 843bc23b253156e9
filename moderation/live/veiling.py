"""The newest scored frame of each stream of a supervisor, as pictures of 64 x 36 without detail.

Only what nobody can recognise leaves the process: who wants to see more opens an alert.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from moderation.live.newest import NewestFrame
from moderation.stills import webp

EVERY_S: Final = 10.0
"""A stream has a new picture this often, at most."""
AT_ONCE: Final = 16
"""Pictures of a turn, at most: the thread that makes them has other work."""


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    captured_s: float
    grey: NDArray[np.float32]


class Veiling:
    """Keeps one small grey picture a stream, whatever comes. Any thread may call any method.

    now: seconds, never stepping back.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._waiting: dict[str, _Waiting] = {}
        self._due_s: dict[str, float] = {}

    def seen(self, stream: str, captured_s: float, grey: NDArray[np.float32]) -> None:
        """A frame was scored. grey: `picture.small_grey` of it. Frames may come in any order."""
        with self._lock:
            known = self._waiting.get(stream)
            if known is None or known.captured_s < captured_s:
                self._waiting[stream] = _Waiting(captured_s, grey)

    def forget(self, stream: str) -> None:
        """It is watched by others, or by nobody."""
        with self._lock:
            self._waiting.pop(stream, None)
            self._due_s.pop(stream, None)

    def turn(self) -> Mapping[str, NewestFrame]:
        """The pictures that are due, by stream; those that have waited longest come first."""
        with self._lock:
            now_s = self._now()
            # Of streams that are gone nothing stays, however late their last frame came back.
            self._due_s = {key: due for key, due in self._due_s.items() if due > now_s - EVERY_S}
            due = [key for key in self._waiting if self._due_s.get(key, now_s) <= now_s]
            due.sort(key=lambda key: self._due_s.get(key, 0.0))
            chosen = {key: self._waiting.pop(key) for key in due[:AT_ONCE]}
            self._due_s |= dict.fromkeys(chosen, now_s + EVERY_S)
        return {key: _veiled(one) for key, one in chosen.items()}


def _veiled(one: _Waiting) -> NewestFrame:
    levels = np.clip(one.grey, 0, 255).astype(np.uint8)
    rgb = np.repeat(levels[:, :, None], 3, axis=2)
    return NewestFrame(round(1000 * one.captured_s), webp(rgb, covered=True))
