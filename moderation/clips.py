"""What clip models add to the rounds of looking at a film: windows of frames where it moves. Pure.

A clip model reads frames that follow each other, which costs as much as reading each of them. It
is asked where the picture moves, and there alone: what stands still shows nothing that a single
frame does not show.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Self

from moderation.aggregate import Frame, hits
from moderation.film import PARTS, Film, look_closer
from moderation.policy import Policy
from moderation.types import LabelScore, Window, Windows
from moderation.video.dedupe import DedupeOptions, FrameHash, distance
from moderation.video.index import FrameIndex
from moderation.video.sampling import Chunk, cut_windows, refine

FEW_FRAMES = 3
"""Fewer frames than this in a window on average, and it shows a cut at most."""
MAX_EXTRA = 64
"""Further windows a round, where what they show comes or goes."""


@dataclass(slots=True, eq=False)
class Seen:
    """What the rounds so far have given, in any order.

    first: the moments of the first round; hashes: of those frames among them that were scored.
    later: single moments of other rounds. clips: of each kind of window, one frame at the middle
    of each.
    """

    first: list[Frame] = field(default_factory=list)
    hashes: list[FrameHash] = field(default_factory=list)
    later: list[Frame] = field(default_factory=list)
    clips: dict[Window, list[Frame]] = field(default_factory=dict)

    def add(
        self,
        round_: int,
        window: Window | None,
        frames: Iterable[Frame],
        hashes: Iterable[FrameHash],
    ) -> None:
        """One more chunk; window: what it reads, as the chunk says."""
        if window is not None:
            self.clips.setdefault(window, []).extend(frames)
        elif round_ == 0:
            self.first += frames
            self.hashes += hashes
        else:
            self.later += frames


def look_on(
    seen: Seen,
    policy: Policy,
    film: Film,
    index: FrameIndex,
    windows: Windows,
    *,
    rounds: int,
    first: int,
) -> tuple[Chunk, ...]:
    """The next round, after so many: windows where the picture moves, and closer looks, in single
    frames and in windows, where a label comes or goes. Nothing: all is known.

    first: how many chunks there were so far.
    """
    if not windows:
        frames = (*seen.first, *seen.later)
        return look_closer(frames, policy, film, index, first=first)
    motion = Motion.of(seen)
    parts: list[Chunk] = []
    for window in _served(windows, film):
        clips = seen.clips.get(window, [])
        starts = motion.begin(window) if rounds == 1 else _closer(clips, window, policy)
        parts += cut_windows(starts, window, index, first=first + len(parts))
    frames = _single(seen, motion, windows, film)
    return (*parts, *look_closer(frames, policy, film, index, first=first + len(parts)))


def judged(seen: Seen, windows: Windows, film: Film) -> tuple[Frame, ...]:
    """All frames with the scores that the policy judges, so that at each moment each label has
    one source.

    Where the picture moves, what windows answer is theirs: a single frame knows less. Where it
    stands still, it is the single frame's, which may be a photograph of a fight; a label that no
    picture model answers takes a movement, and is 0 there. Windows of which none was read,
    because the file is gone, were not seen.
    """
    if not windows:
        return (*seen.first, *seen.later)
    motion = Motion.of(seen)
    clips = [
        frame
        for window in _served(windows, film)
        for frame in seen.clips.get(window)
        or [Frame(start_s + window.span_s / 2, None) for start_s in motion.begin(window)]
    ]
    return (*_single(seen, motion, windows, film), *clips)


def without(frames: Iterable[Frame], windows: Windows) -> tuple[Frame, ...]:
    """Frames of single moments without all that windows answer: while none has been read, nobody
    knows whose those labels will be."""
    return tuple(_less(frame, _labels(windows)) for frame in frames)


def _single(seen: Seen, motion: Motion, windows: Windows, film: Film) -> tuple[Frame, ...]:
    frames = (*seen.first, *seen.later)
    theirs = _labels(_served(windows, film))
    still = {
        label: LabelScore(label, 0.0, ref)
        for answers in windows.values()
        for label, ref in answers.items()
    }
    return tuple(
        _less(_more(frame, still), theirs if motion.moves(frame.time_s) else set())
        for frame in frames
    )


def _served(windows: Windows, film: Film) -> Windows:
    """The windows that a film has frames enough for: in slides nothing moves."""
    frames_a_second = film.info.frames / film.info.held_s
    return {
        window: answers
        for window, answers in windows.items()
        if frames_a_second * window.span_s >= FEW_FRAMES
    }


def _labels(windows: Windows) -> Set[str]:
    return {label for answers in windows.values() for label in answers}


def _more(frame: Frame, peaks: Mapping[str, LabelScore]) -> Frame:
    if frame.peaks is None or not peaks:
        return frame
    return replace(frame, peaks={**peaks, **frame.peaks})


def _less(frame: Frame, labels: Set[str]) -> Frame:
    if frame.peaks is None or not labels:
        return frame
    peaks = {label: found for label, found in frame.peaks.items() if label not in labels}
    return replace(frame, peaks=peaks)


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """Where the picture moves, as the moments of the first round tell: around each that looks
    like neither the one before nor the one after. A slide is shown for two moments at least.

    times: ascending. moving: for each, whether it moves; seen: whether it was seen.
    """

    times: Sequence[float]
    moving: Sequence[bool]
    seen: Sequence[bool]

    @classmethod
    def of(cls, looked: Seen) -> Self:
        frames: list[Frame] = []
        for frame in sorted(looked.first, key=lambda frame: frame.time_s):
            # Moments at which the same frame is shown tell nothing of what moves.
            if not frames or frame.peaks is None or _shown_s(frame) != _shown_s(frames[-1]):
                frames.append(frame)
        hashes = sorted(looked.hashes, key=lambda one: one.time_s)
        known = [one.time_s for one in hashes]
        scored = [
            # A frame shares the scores of the last one before it that has any.
            None if f.peaks is None else hashes[bisect_right(known, _shown_s(f)) - 1]
            for f in frames
        ]
        differ = [a is None or b is None or _differ(a, b) for a, b in pairwise(scored)]
        return cls(
            times=[frame.time_s for frame in frames],
            moving=[
                one is not None and all(differ[max(0, i - 1) : i + 1])
                for i, one in enumerate(scored)
            ],
            seen=[one is not None for one in scored],
        )

    def moves(self, time_s: float) -> bool:
        """Whether the picture moves at a moment: it does between a moving one and the next."""
        after = bisect_right(self.times, time_s)
        if after and self.times[after - 1] == time_s:
            return self.moving[after - 1]
        return any(self.moving[max(0, after - 1) : after + 1])

    def begin(self, window: Window) -> tuple[float, ...]:
        """Where windows begin: at most `every_s` apart, as far as the moments allow.

        Each begins at a moment that was sampled. So nobody can tell where it will be, as with
        those, and where moments are few, because the film is long or somebody wants it so,
        windows are too.
        """
        starts: list[float] = []
        for i, time_s in enumerate(self.times):
            next_s = self.times[i + 1] if i + 1 < len(self.times) else math.inf
            late = not starts or next_s - starts[-1] > window.every_s
            if self.seen[i] and any(self.moving[i : i + 2]) and late:
                starts.append(time_s)
        return tuple(starts)


def _shown_s(frame: Frame) -> float:
    return frame.time_s if frame.shown_s is None else frame.shown_s


def _differ(one: FrameHash, other: FrameHash) -> bool:
    """Whether two scored frames show different pictures. Alike ones may both have been scored: the
    later one after a while, or as the first of its chunk."""
    options = DedupeOptions()
    # A plain picture's hash means little: it may be night, with somebody in it.
    plain = min(one.quality, other.quality) < options.min_quality
    return plain or distance(one.pdq, other.pdq) > options.max_distance


def _closer(clips: Sequence[Frame], window: Window, policy: Policy) -> tuple[float, ...]:
    """Where further windows begin, so that borders are known to half a window."""
    found = {f.time_s: hits(f.peaks, policy) for f in clips if f.peaks is not None}
    times = sorted(found)
    middles = refine(
        times,
        [found[time_s] for time_s in times],
        tolerance_s=window.span_s / 2,
        parts=PARTS,
        max_extra=MAX_EXTRA,
    )
    return tuple(max(0.0, middle_s - window.span_s / 2) for middle_s in middles)
