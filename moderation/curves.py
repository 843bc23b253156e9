"""A label's score over time, with no more points than a picture of it shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from moderation.aggregate import Frame

MAX_POINTS = 600
"""Points of one curve: more than there are pixels to draw them."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One label's score over time. points: (seconds, score), ascending; a score of None: the
    moment was not seen, and the line is broken there."""

    label: str
    points: tuple[tuple[float, float | None], ...]

    @property
    def peak(self) -> float:
        return max((score for _, score in self.points if score is not None), default=0.0)


def curves(frames: Sequence[Frame], limit: int = MAX_POINTS) -> tuple[Curve, ...]:
    """The curve of every label that was scored; frames in any order. Each has at most `limit`
    points, and keeps its highest one."""
    moments = sorted(frames, key=lambda frame: frame.time_s)
    labels = sorted({label for frame in moments for label in frame.peaks or ()})
    return tuple(Curve(label, thin(_points(moments, label), limit)) for label in labels)


def thin(
    points: Sequence[tuple[float, float | None]], limit: int
) -> tuple[tuple[float, float | None], ...]:
    """At most `limit` points (at least 4): the lowest and the highest of each stretch of time,
    or one that was not seen where none of them was."""
    if len(points) <= limit:
        return tuple(points)
    start, end = points[0][0], points[-1][0]
    stretches = limit // 2
    width = (end - start) / stretches

    def stretch(point: tuple[float, float | None]) -> int:
        return min(stretches - 1, int((point[0] - start) / width))

    kept: list[tuple[float, float | None]] = []
    for _, group in groupby(points, key=stretch):
        several = list(group)
        seen = [(time_s, score) for time_s, score in several if score is not None]
        if seen:
            ends = {min(seen, key=lambda p: p[1]), max(seen, key=lambda p: p[1])}
            kept += sorted(ends)
        else:
            kept.append(several[0])
    return tuple(kept)


def _points(moments: Sequence[Frame], label: str) -> list[tuple[float, float | None]]:
    """A label that a seen frame has no score for is read by a model that skips frames: no break."""
    points: list[tuple[float, float | None]] = []
    for frame in moments:
        if frame.peaks is None:
            points.append((frame.time_s, None))
        elif (found := frame.peaks.get(label)) is not None:
            points.append((frame.time_s, found.score))
    return points
