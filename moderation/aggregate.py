"""Frame scores + policy -> segments -> the decision of a video. Pure: no clock, no disk.

For each rule a segment opens when `min_frames` of the last `window` seen moments reach the
opening threshold, and closes after `window - min_frames + 1` seen moments in a row below the
lower closing threshold: with so many misses no window can hold enough hits. It blocks when
`min_frames` of `window` reach `block_at`. The worst segment decides, never the mean. A lone
moment at `block_at` asks a person; it never blocks where `min_frames` is above 1.

What was not seen is no hit and no miss: it follows `on_failure`. The batch form runs on the
rolling one, so that film and live stream are judged alike.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from moderation.policy import Outcome, Policy, Rule, unseen
from moderation.types import (
    Coverage,
    Decision,
    LabelScore,
    Reason,
    Segment,
    worst,
)

BRIDGE_S = 30.0
"""Seconds without a score that a segment may reach across."""

Boxes = tuple[tuple[float, float, float, float, float], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One moment of a video.

    time_s: the moment that was asked for. peaks: label -> score of the frame shown then; None:
    it was not seen. A label may be absent where its model does not read every frame.
    shown_s: the frame's own time, at or before `time_s`; None: `time_s` itself.
    shared: the scores are those of a near-duplicate. views: how many views were scored.
    """

    time_s: float
    peaks: Mapping[str, LabelScore] | None
    shown_s: float | None = None
    shared: bool = False
    views: int = 1


@dataclass(frozen=True, slots=True)
class Passage:
    """A segment with what led to it. `label` and `start_s` name it: they never change.

    start_s: when its first frame appeared; end_s: the last moment at which it was seen; peak_s:
    the own time of the frame of `peak`, the first of the highest score. threshold: the one that
    `decision` rests on. boxes: evidence of the highest-scored frame that has any, at `boxes_s`.
    """

    label: str
    decision: Decision
    threshold: float | None
    start_s: float
    end_s: float
    peak_s: float
    peak: LabelScore
    boxes: Boxes = ()
    boxes_s: float | None = None
    boxes_score: float = 0.0

    def segment(self) -> Segment:
        """The public form; times to the millisecond."""
        return Segment(
            label=self.label,
            decision=self.decision,
            start_s=round(self.start_s, 3),
            end_s=round(self.end_s, 3),
            peak_s=round(self.peak_s, 3),
            score=self.peak.score,
        )


@dataclass(frozen=True, slots=True)
class Change:
    """What a moment did to a segment, which is given as it is now."""

    kind: Literal["opened", "extended", "closed"]
    passage: Passage


@dataclass(frozen=True, slots=True)
class Timeline:
    """What a policy says of a video. passages: by start, then label. peaks: each label's worst
    score over all seen moments, whatever its rule says."""

    outcome: Outcome
    passages: tuple[Passage, ...]
    peaks: Mapping[str, LabelScore]
    coverage: Coverage


def opening(rule: Rule) -> float:
    """The threshold that opens a segment of a rule."""
    for threshold in (rule.review_at, rule.block_at):
        if threshold is not None:
            return threshold
    raise ValueError(f"the rule of {rule.label} has no threshold")


def closing(rule: Rule) -> float:
    """The threshold that keeps a segment open: half the odds of the opening one.

    0.5 -> 0.33, 0.7 -> 0.54, 0.95 -> 0.90.
    """
    threshold = opening(rule)
    return threshold / (2 - threshold)


def floors(policy: Policy) -> dict[str, float]:
    """The lowest score of each label that can belong to a segment. A label without a rule is
    left out: nothing says which of its scores matter."""
    return {rule.label: closing(rule) for rule in policy.rules}


def hits(peaks: Mapping[str, LabelScore], policy: Policy) -> frozenset[str]:
    """The labels that a frame shows well enough to belong to a segment: where they come and go,
    `video.sampling.refine` looks closer."""
    return frozenset(
        rule.label
        for rule in policy.rules
        if (found := peaks.get(rule.label)) is not None and found.score >= closing(rule)
    )


class RollingAggregate:
    """Segments of one video or stream, moment by moment.

    It keeps `window` scores and at most one open segment a rule, however long the stream.
    bridge_s: a label not scored for longer than this ends its segment: what comes before and
    after is not one passage.
    """

    def __init__(self, policy: Policy, *, bridge_s: float = BRIDGE_S) -> None:
        self._tracks = tuple(_Track(rule, bridge_s) for rule in policy.rules)
        self._last_s: float | None = None

    def add(
        self,
        time_s: float,
        peaks: Mapping[str, LabelScore] | None,
        shown_s: float | None = None,
    ) -> tuple[Change, ...]:
        """The next moment, as in `Frame`; what changed by it. Raises ValueError where the
        time is not above the last one."""
        if self._last_s is not None and time_s <= self._last_s:
            raise ValueError(f"moment {time_s} s after {self._last_s} s")
        self._last_s = time_s
        changes: list[Change | None] = []
        for track in self._tracks:
            changes.append(track.expire(time_s))
            found = peaks.get(track.label) if peaks is not None else None
            if found is not None:
                changes.append(track.add(time_s, time_s if shown_s is None else shown_s, found))
        return tuple(change for change in changes if change is not None)

    def finish(self) -> tuple[Change, ...]:
        """Closes what is open: nothing more comes."""
        changes = [track.end() for track in self._tracks]
        return tuple(change for change in changes if change is not None)


class _Track:
    """One rule. A run of moments at the closing threshold becomes a segment by its decision."""

    def __init__(self, rule: Rule, bridge_s: float) -> None:
        self.label = rule.label
        self._rule = rule
        self._opens_at = opening(rule)
        self._closes_at = closing(rule)
        self._bridge_s = bridge_s
        self._recent: deque[LabelScore] = deque(maxlen=rule.window)
        self._misses = 0
        self._last_s = 0.0
        self._run: Passage | None = None

    def expire(self, time_s: float) -> Change | None:
        return self.end() if time_s - self._last_s > self._bridge_s else None

    def add(self, time_s: float, shown_s: float, found: LabelScore) -> Change | None:
        self._last_s = time_s
        self._recent.append(found)
        if found.score < self._closes_at:
            self._misses += 1
            enough = self._rule.window - self._rule.min_frames + 1
            return self.end() if self._misses >= enough else None
        self._misses = 0
        run = _extended(self._run, self.label, time_s, shown_s, found)
        before = run.decision
        decision, threshold = self._judge(found)
        if decision.severity > before.severity:
            run = replace(run, decision=decision, threshold=threshold)
        self._run = run
        if run.decision is Decision.PASS:
            return None
        return Change("opened" if before is Decision.PASS else "extended", run)

    def end(self) -> Change | None:
        run, self._run = self._run, None
        self._misses = 0
        self._recent.clear()
        if run is None or run.decision is Decision.PASS:
            return None
        return Change("closed", run)

    def _judge(self, latest: LabelScore) -> tuple[Decision, float | None]:
        """The decision that the window bears out now, and the threshold that it reached."""
        rule = self._rule
        block_at = rule.block_at if rule.block_at is not None else float("inf")
        blocking = [score for score in self._recent if score.score >= block_at]
        evidence = rule.block_needs == "score" or any(score.boxes for score in blocking)
        if len(blocking) >= rule.min_frames and evidence:
            return Decision.BLOCK, rule.block_at
        opened = sum(score.score >= self._opens_at for score in self._recent) >= rule.min_frames
        if opened or latest.score >= block_at:
            return Decision.REVIEW, self._opens_at
        return Decision.PASS, None


def _extended(
    run: Passage | None, label: str, time_s: float, shown_s: float, found: LabelScore
) -> Passage:
    """The run with one more moment; a run of its own where there is none."""
    end_s = max(time_s, shown_s)
    if run is None:
        run = Passage(label, Decision.PASS, None, shown_s, end_s, shown_s, found)
    elif found.score > run.peak.score:
        run = replace(run, end_s=end_s, peak_s=shown_s, peak=found)
    else:
        run = replace(run, end_s=end_s)
    if found.boxes and (not run.boxes or found.score > run.boxes_score):
        run = replace(run, boxes=found.boxes, boxes_s=shown_s, boxes_score=found.score)
    return run


def aggregate(
    frames: Iterable[Frame],
    policy: Policy,
    *,
    duration_s: float,
    frames_total: int,
    gap_s: float,
) -> Timeline:
    """The decision over a whole video. The order of `frames` does not matter.

    duration_s, frames_total: of the video, as probed. gap_s: a longer time without a seen moment
    counts as not seen; the plan's largest gap. A moment given twice counts once: seen rather
    than not, with the higher score of each label.
    """
    moments = _merged(frames)
    # Moments sampled far apart are neighbours all the same.
    rolling = RollingAggregate(policy, bridge_s=max(BRIDGE_S, 2 * gap_s))
    changes: list[Change] = []
    for frame in moments:
        changes += rolling.add(frame.time_s, frame.peaks, frame.shown_s)
    changes += rolling.finish()
    closed = (change.passage for change in changes if change.kind == "closed")
    passages = tuple(sorted(closed, key=lambda p: (p.start_s, p.label)))
    peaks: dict[str, LabelScore] = {}
    for frame in moments:
        peaks = _higher(peaks, frame.peaks or {})
    coverage = cover(moments, duration_s=duration_s, frames_total=frames_total, gap_s=gap_s)
    reasons = _reasons(passages, peaks, policy, coverage)
    outcome = Outcome(worst(*(reason.decision for reason in reasons)), reasons)
    return Timeline(outcome, passages, peaks, coverage)


def cover(
    moments: Sequence[Frame], *, duration_s: float, frames_total: int, gap_s: float
) -> Coverage:
    """What was seen of a video; `moments` ascend and differ.

    Not seen is the time between two seen moments (or the video's ends) with one that failed
    between them, or longer than `gap_s`. Seconds.
    """
    seen = [frame for frame in moments if frame.peaks is not None]
    failed = [frame.time_s for frame in moments if frame.peaks is None]
    scored = [frame for frame in seen if not frame.shared]
    end_s = max([duration_s, *(frame.time_s for frame in moments)])
    gaps = list(pairwise([0.0, *(frame.time_s for frame in seen), end_s]))
    # Sums of floats: a gap that is exactly the planned one is not too long.
    lost = [
        (round(a, 3), round(b, 3))
        for a, b in gaps
        if b - a > gap_s + 1e-6 or _any_between(failed, a, b)
    ]
    notes = [f"{len(seen)} of {len(moments)} sampled frames seen"]
    if len(scored) < len(seen):
        notes.append(f"{len(seen) - len(scored)} near-duplicates share the scores of another frame")
    return Coverage(
        frames_total=max(frames_total, len(scored)),
        frames_scored=len(scored),
        frames_failed=len(failed),
        views_scored=sum(frame.views for frame in scored),
        complete=not lost,
        notes=notes,
        frames_sampled=len(moments),
        frames_decoded=len(seen),
        largest_gap_s=round(max(b - a for a, b in gaps), 3),
        unseen=lost,
    )


def _any_between(times: Sequence[float], start: float, end: float) -> bool:
    at = bisect_left(times, start)
    return at < len(times) and times[at] <= end


def _merged(frames: Iterable[Frame]) -> list[Frame]:
    """Ascending, one frame a moment."""
    moments: dict[float, Frame] = {}
    for frame in frames:
        other = moments.get(frame.time_s)
        if other is None or other.peaks is None:
            moments[frame.time_s] = frame
        elif frame.peaks is not None:
            peaks = _higher(dict(other.peaks), frame.peaks)
            moments[frame.time_s] = replace(
                other, peaks=peaks, shared=other.shared and frame.shared
            )
    return [moments[time_s] for time_s in sorted(moments)]


def _higher(peaks: dict[str, LabelScore], more: Mapping[str, LabelScore]) -> dict[str, LabelScore]:
    """`peaks`, raised where `more` is higher."""
    for label, found in more.items():
        best = peaks.get(label)
        if best is None or found.score > best.score:
            peaks[label] = found
    return peaks


def _reasons(
    passages: Sequence[Passage],
    peaks: Mapping[str, LabelScore],
    policy: Policy,
    coverage: Coverage,
) -> tuple[Reason, ...]:
    """One a label, by its worst segment; then what was not looked at. Worst first."""
    reasons = []
    for rule in policy.rules:
        own = [passage for passage in passages if passage.label == rule.label]
        if own:
            reasons.append(_reason(own))
        elif rule.label in peaks or rule.optional:
            continue  # below its thresholds, or nobody promised an answer
        elif policy.on_failure is not Decision.PASS:
            reasons.append(unseen(policy, rule.label, f"no loaded model answers {rule.label}"))
    if not coverage.complete and policy.on_failure is not Decision.PASS:
        lost = coverage.unseen or []
        parts = ", ".join(f"{start:.1f}-{end:.1f} s" for start, end in lost[:3])
        more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
        reasons.append(unseen(policy, "coverage.unseen", f"not seen: {parts}{more}"))
    reasons.sort(key=lambda r: (-r.decision.severity, -(r.score or 0.0), r.label))
    return tuple(reasons)


def _reason(passages: Sequence[Passage]) -> Reason:
    """The reason that a label's segments give."""
    most = max(passages, key=lambda p: (p.decision.severity, p.peak.score, -p.start_s))
    others = f", the worst of {len(passages)} segments" if len(passages) > 1 else ""
    return Reason(
        category=most.label.partition(".")[0],
        label=most.label,
        sublabel=most.peak.sublabel,
        score=most.peak.score,
        decision=most.decision,
        threshold=most.threshold,
        boxes=[list(box) for box in most.boxes],
        frames=list(most.peak.frames),
        model=most.peak.model,
        detail=f"{most.start_s:.1f}-{most.end_s:.1f} s{others}",
    )
