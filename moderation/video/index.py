"""When every frame of a file is shown, from its packets alone. Pure.

Times are seconds from the start of the presentation, as a player counts them: sound may begin
before the first picture does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SEEK_LATER_S = 0.14
_ROUNDING_S = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class FrameIndex:
    """times: ascending, distinct, one a frame, at least one. keys: True where decoding can
    begin. end_s: when the last frame goes, after the last time."""

    times: NDArray[np.float64]
    keys: NDArray[np.bool_]
    end_s: float

    def __len__(self) -> int:
        return len(self.times)

    @property
    def fps(self) -> float:
        """Frames a second, on average; 0 for a single frame."""
        span = self.end_s - float(self.times[0])
        return len(self.times) / span if len(self.times) > 1 else 0.0

    @property
    def keyframes(self) -> tuple[float, ...]:
        """The times of the key frames, ascending."""
        return tuple(float(time_s) for time_s in self.times[self.keys])

    def shown_at(self, time_s: float) -> float:
        """The own time of the frame shown at a moment: the last one not later, or the first."""
        at = int(np.searchsorted(self.times, time_s + _ROUNDING_S, side="right")) - 1
        return float(self.times[max(0, at)])

    def key_before(self, time_s: float) -> float:
        """The time of the last key frame not later than a moment; the first frame's where
        there is none."""
        at = int(np.searchsorted(self.times, time_s + _ROUNDING_S, side="right"))
        found = np.flatnonzero(self.keys[:at])
        return float(self.times[found[-1]]) if len(found) else float(self.times[0])

    def seek_to(self, time_s: float) -> float:
        """Where to begin reading so as to decode the frame of a time; 0: at the beginning.

        A little after the key frame: ffmpeg goes back by up to 0.13 s for containers that are
        sorted by decoding order, and then to the key frame before that.
        """
        at = int(np.searchsorted(self.times, time_s + _ROUNDING_S, side="right"))
        found = np.flatnonzero(self.keys[:at])
        if len(found) == 0 or found[-1] == 0:
            return 0.0
        key_s = float(self.times[found[-1]])
        later = np.flatnonzero(self.keys[found[-1] + 1 :])
        if len(later) == 0:
            return key_s + _SEEK_LATER_S
        next_s = float(self.times[found[-1] + 1 + later[0]])
        return key_s + min(_SEEK_LATER_S, (next_s - key_s) / 2)
