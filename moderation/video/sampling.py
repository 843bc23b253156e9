"""Which moments of a video are looked at. Pure: duration and marks in, times out.

A time names the frame shown at that moment: the last one whose own time is not later. Times
are in seconds from the first frame, never negative and never at or behind the end.

Neither the uploader's key frames nor a fixed grid decide alone: each moment lies somewhere in
its own cell of the grid, and the grid itself is shifted, so that content cannot hide between
known points, nor flash at the grid's own pace. The places follow from a seed, so that a second
run asks for the same frames. Whoever knows the seed knows the places: mix a secret into it
where that matters.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from moderation.types import Ask, Window
from moderation.video.index import FrameIndex

Mode = Literal["interval", "keyframe", "scene", "fps"]

JITTER = 0.75
"""The part of its cell that a moment may lie in. The rest keeps neighbours apart: two moments
are never nearer than a quarter of the step, and never farther apart than two steps."""

MAX_FRAMES = 64
"""Moments of a chunk, or frames of its windows."""
MAX_SECONDS = 60.0
"""Of the film that a chunk reaches over."""

_ASSUMED_FPS = 25.0
"""For a file that does not tell its own frame rate."""

_SHORT_S = 1800.0
_LONGEST_INTERVAL_S = 5.0


@dataclass(frozen=True, slots=True)
class SamplingOptions:
    """How to look at a video.

    mode: "interval", a moment every `interval_s`; "fps", `rate` moments a second; "keyframe",
    every key frame, and "scene", a moment of every scene, both filled up so that no gap is
    longer than `max_gap_s`, because whoever made the file chose where those lie.
    interval_s: seconds; None: 1 up to half an hour, growing to 5 from two and a half hours.
    max_frames: at least 2. Where the mode asks for more moments, they are spread evenly.
    seed: any text, such as the hash of the content.
    """

    mode: Mode = "interval"
    interval_s: float | None = None
    rate: float = 1.0
    max_gap_s: float = 10.0
    max_frames: int = 3600
    seed: str = ""

    def __post_init__(self) -> None:
        for name in ("interval_s", "rate", "max_gap_s"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be above 0, not {value}")
        if self.max_frames < 2:
            raise ValueError(f"max_frames must be at least 2, not {self.max_frames}")


@dataclass(frozen=True, slots=True)
class SamplingPlan:
    """The moments to look at, ascending and distinct, the first at 0, the last in the last frame.

    capped: the mode asked for more moments than `max_frames`, or named more marks than frames.
    """

    times: tuple[float, ...]
    duration_s: float
    capped: bool

    @property
    def largest_gap_s(self) -> float:
        """The longest part of the video, in seconds, that holds no planned moment."""
        return max(b - a for a, b in pairwise((0.0, *self.times, self.duration_s)))


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a round of looking that one worker reads: neighbouring moments, at least one.

    number: counted from 0 over all rounds, the same each time for the same moments. asks: each
    moment with the own time of the frame shown then. seek_s: the key frame where reading begins.
    exact: those very frames; else a near one may stand for a frame that no other needs.
    window: the asks are those of whole windows of that kind, one window after the other; None:
    each ask is a moment of its own.
    """

    number: int
    asks: tuple[Ask, ...]
    seek_s: float
    exact: bool
    window: Window | None = None

    @property
    def start_s(self) -> float:
        return self.asks[0][0]

    @property
    def end_s(self) -> float:
        """The last moment, which belongs to the chunk."""
        return self.asks[-1][0]


def default_interval_s(duration_s: float) -> float:
    """Seconds between moments where nobody chose: 1 up to half an hour, 5 for long video."""
    return min(_LONGEST_INTERVAL_S, max(1.0, duration_s / _SHORT_S))


def plan(
    duration_s: float,
    fps: float | None,
    options: SamplingOptions,
    keyframes: Sequence[float] | None = None,
    scenes: Sequence[float] | None = None,
) -> SamplingPlan:
    """The moments to look at in a video of `duration_s` seconds, above 0.

    fps: frames a second, on average where it varies; None or 0 where unknown. More moments than
    frames are never asked for. keyframes: their times in seconds, for mode "keyframe". scenes:
    times of the cuts, for mode "scene". Either may be in any order; what lies outside the video
    is left out. Raises ValueError where the mode's marks are missing.
    """
    if not (math.isfinite(duration_s) and duration_s > 0):
        raise ValueError(f"duration_s must be above 0, not {duration_s}")
    frames = max(1, round(duration_s * (fps or _ASSUMED_FPS)))
    if frames == 1:
        return SamplingPlan((0.0,), duration_s, capped=False)
    period = duration_s / frames
    last = duration_s - period / 2
    draw = _draws(options.seed)
    if options.mode in ("interval", "fps"):
        step = _step(duration_s, options)
        # Compared as floats: a step may be so small that the quotient is no useful integer.
        wanted = min(math.ceil(min(last / step, frames)) + 1, frames)
        times = _even(min(wanted, options.max_frames), frames, last, draw)
        return SamplingPlan(times, duration_s, capped=wanted > options.max_frames)
    marks = _marks(options.mode, keyframes, scenes, last, draw)
    most = min(options.max_frames, frames)
    filled = _filled(marks, options.max_gap_s, most, period, draw)
    if filled is not None:
        return SamplingPlan(filled, duration_s, capped=False)
    even = _even(most, frames, last, draw)
    return SamplingPlan(_snapped(even, marks), duration_s, capped=True)


def refine(
    times: Sequence[float],
    hits: Sequence[AbstractSet[str]],
    *,
    tolerance_s: float,
    parts: int = 2,
    max_extra: int = 512,
) -> tuple[float, ...]:
    """Further moments, ascending, where a segment begins or ends between two seen moments.

    times: the moments asked for and seen, ascending, not the frames' own times, which would
    never close in on the end of a frame that is shown for long. hits: for each, the labels
    found there. A border lies between neighbours that differ; where they are farther apart than
    `tolerance_s` (at least two frames' duration, so that one frame is not seen twice), the gap
    is cut into `parts`: 2 is bisection, more needs fewer rounds and more frames. Call again with
    the answers added until nothing comes back: every border is then known to `tolerance_s`.
    max_extra: at most so many moments a round, the widest gaps first, because flickering content
    has borders everywhere.
    """
    if not tolerance_s > 0:
        raise ValueError(f"tolerance_s must be above 0, not {tolerance_s}")
    if not 2 <= parts <= max_extra + 1:
        raise ValueError(f"parts must be 2 to {max_extra + 1}, not {parts}")
    seen = zip(times, hits, strict=True)
    gaps = [
        (start, end)
        for (start, before), (end, after) in pairwise(seen)
        if before != after and end - start > tolerance_s
    ]
    extra: list[float] = []
    for start, end in sorted(gaps, key=lambda gap: (gap[0] - gap[1], gap[0])):
        pieces = min(parts, math.ceil((end - start) / tolerance_s))
        if len(extra) + pieces - 1 > max_extra:
            break
        extra += [start + (end - start) * i / pieces for i in range(1, pieces)]
    return tuple(sorted(extra))


def chosen(seed: str, count: int) -> int:
    """One of 0 to count - 1, the same for the same seed."""
    return int(_draws(f"draw:{seed}")() * count)


def cut(
    times: Sequence[float],
    index: FrameIndex,
    *,
    exact: bool,
    first: int = 0,
    max_frames: int = MAX_FRAMES,
    max_seconds: float = MAX_SECONDS,
) -> tuple[Chunk, ...]:
    """Moments cut into chunks of at most `max_frames` over at most `max_seconds`.

    Every moment is in exactly one chunk, in order. A cut is made where a key frame lies between
    two moments, when that keeps a chunk at least half as long as it may be: what comes before
    the key frame is then not decoded twice. first: the number of the first chunk, for a round of
    `refine`, which goes on counting where the one before ended.
    """
    if max_frames < 1 or max_seconds < 0:
        raise ValueError("a chunk holds at least one moment")
    found: list[Chunk] = []
    rest = [(time_s, index.shown_at(time_s)) for time_s in times]
    while rest:
        most = 1
        while most < min(len(rest), max_frames) and rest[most][0] - rest[0][0] <= max_seconds:
            most += 1
        size = most if most == len(rest) else _at_key(rest, most, index)
        part, rest = rest[:size], rest[size:]
        seek_s = index.seek_to(part[0][1])
        found.append(Chunk(first + len(found), tuple(part), seek_s, exact))
    return tuple(found)


def cut_windows(
    starts: Sequence[float],
    window: Window,
    index: FrameIndex,
    *,
    first: int,
    max_frames: int = MAX_FRAMES,
) -> tuple[Chunk, ...]:
    """Windows that begin at some moments, ascending, as chunks of whole ones: at least one, and
    more up to `max_frames`, where they lie near each other: what lies between them is decoded too.

    A window reaches to the end of the video at most; in one that is shorter the last frame is
    shown on.
    """
    latest_s = max(0.0, index.end_s - window.span_s)
    parts: list[list[Ask]] = []
    last_s = -math.inf
    for start_s in sorted({min(start_s, latest_s) for start_s in starts}):
        times = [start_s + i / window.rate for i in range(window.frames)]
        asks = [(time_s, index.shown_at(time_s)) for time_s in times]
        near = start_s - last_s <= 2 * window.every_s and times[-1] - parts[-1][0][0] <= MAX_SECONDS
        if near and len(parts[-1]) + window.frames <= max_frames:
            parts[-1] += asks
        else:
            parts.append(asks)
        last_s = start_s
    return tuple(
        Chunk(number, tuple(part), index.seek_to(part[0][1]), exact=True, window=window)
        for number, part in enumerate(parts, first)
    )


def _at_key(rest: Sequence[tuple[float, float]], most: int, index: FrameIndex) -> int:
    """The largest size up to `most`, and at least half of it, after which a key frame comes."""
    for size in range(most, max(1, most // 2) - 1, -1):
        if index.key_before(rest[size][1]) > rest[size - 1][1]:
            return size
    return most


def _step(duration_s: float, options: SamplingOptions) -> float:
    if options.mode == "fps":
        return 1 / options.rate
    return options.interval_s or default_interval_s(duration_s)


def _draws(seed: str) -> Callable[[], float]:
    """Numbers of [0, 1), the same for the same seed on every machine and version."""

    def numbers() -> Iterator[float]:
        number = 0
        while True:
            digest = hashlib.blake2b(f"{number}:{seed}".encode(), digest_size=8).digest()
            # 53 bits: the most that a float below 1 can hold.
            yield (int.from_bytes(digest) >> 11) / (1 << 53)
            number += 1

    return numbers().__next__


def _even(count: int, frames: int, last: float, draw: Callable[[], float]) -> tuple[float, ...]:
    """About `count` moments (never more) from the first frame to the middle of the last."""
    period = last / (frames - 0.5)
    if count >= frames:  # every frame: in its middle, where rounding cannot miss it
        return (0.0, *((i + 0.5) * period for i in range(1, frames - 1)), last)
    return (0.0, *_between(0.0, last, count - 2, period, draw), last)


def _between(
    start: float, end: float, count: int, period: float, draw: Callable[[], float]
) -> Iterator[float]:
    """`count` jittered moments between two others, which stand for the part cells at both ends.

    One that would show the frame of `start` or `end` again is left out.
    """
    step = (end - start) / (count + 1)
    # Neighbours stay a frame apart, as far as the step allows.
    jitter = min(JITTER, max(0.0, 1 - period / step))
    shift = draw()
    for i in range(count):
        time_s = start + step * (i + shift + 0.5 + jitter * (draw() - 0.5))
        if start + period <= time_s <= end - period:
            yield time_s


def _marks(
    mode: Mode,
    keyframes: Sequence[float] | None,
    scenes: Sequence[float] | None,
    last: float,
    draw: Callable[[], float],
) -> tuple[float, ...]:
    """The moments that the file's own structure names, from 0 to `last`."""
    given = keyframes if mode == "keyframe" else scenes
    if given is None:
        raise ValueError(f"mode {mode!r} needs the times of the {mode}s")
    marks = sorted({0.0, *(time_s for time_s in given if 0 < time_s < last), last})
    if mode == "scene":  # a scene shows itself in its middle half, not in a cross-fade
        marks = sorted(
            {0.0, *(a + (b - a) * (0.25 + draw() / 2) for a, b in pairwise(marks)), last}
        )
    return tuple(marks)


def _filled(
    marks: Sequence[float], max_gap_s: float, most: int, period: float, draw: Callable[[], float]
) -> tuple[float, ...] | None:
    """The marks, and further moments between those that lie far apart; None: above `most`."""
    times = [marks[0]]
    for start, end in pairwise(marks):
        if end - start > max_gap_s:
            # Jittered neighbours lie up to two steps apart.
            count = math.ceil(2 * (end - start) / max_gap_s) - 1
            if len(times) + count >= most:
                return None
            times += _between(start, end, count, period, draw)
        times.append(end)
    return tuple(times) if len(times) <= most else None


def _snapped(even: Sequence[float], marks: Sequence[float]) -> tuple[float, ...]:
    """Even moments, each moved to the nearest mark where that lies within half a step."""
    reach = (even[-1] - even[0]) / (len(even) - 1) / 2
    times = set()
    for time_s in even:
        at = bisect_left(marks, time_s)
        nearest = min(marks[max(0, at - 1) : at + 1], key=lambda mark: abs(mark - time_s))
        times.add(nearest if abs(nearest - time_s) <= reach else time_s)
    return (even[0], *sorted(times - {even[0], even[-1]}), even[-1])
