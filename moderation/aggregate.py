"""Frame scores -> segments -> the decision of a video. Pure: no clock, no disk.

The segments are those of `rolling`, so that film and live stream are judged alike. The worst
decides, never the mean. What was not seen is no hit and no miss: it follows `on_failure`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from moderation.policy import Outcome, Policy, unseen
from moderation.rolling import BRIDGE_S, Change, Passage, RollingAggregate, closing, to_ms
from moderation.types import (
    Coverage,
    Decision,
    LabelScore,
    Reason,
    worst,
)

PLAIN = "0" * 64
"""Stands for all pictures without detail: nobody can tell whether they are different."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One moment of a video.

    time_s: the moment that was asked for. peaks: label -> score of the frame shown then; None:
    it was not seen. A label may be absent where its model does not read every frame.
    shown_s: the frame's own time, at or before `time_s`; None: `time_s` itself.
    shared: the scores are those of a near-duplicate. views: how many views were scored.
    picture: hash of the picture that was scored, so that frames of one still can be told, PLAIN
    where a hash means little; None: it is like no other.
    """

    time_s: float
    peaks: Mapping[str, LabelScore] | None
    shown_s: float | None = None
    shared: bool = False
    views: int = 1
    picture: str | None = None


@dataclass(frozen=True, slots=True)
class Timeline:
    """What a policy says of a video. passages: by start, then label. peaks: each label's worst
    score over all seen moments, whatever its rule says."""

    outcome: Outcome
    passages: tuple[Passage, ...]
    peaks: Mapping[str, LabelScore]
    coverage: Coverage


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
    moments = merged(frames)
    # Moments sampled far apart are neighbours all the same.
    rolling = RollingAggregate(policy, bridge_s=max(BRIDGE_S, 2 * gap_s))
    changes: list[Change] = []
    for frame in moments:
        changes += rolling.add(frame.time_s, frame.peaks, frame.shown_s, frame.picture)
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


def merged(frames: Iterable[Frame]) -> list[Frame]:
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
        sublabel=most.sublabel,
        score=most.peak.score,
        decision=most.decision,
        threshold=most.threshold,
        boxes=[list(box) for box in most.boxes],
        boxes_s=to_ms(most.boxes_s),
        frames=list(most.peak.frames),
        model=most.peak.model,
        detail=f"{most.start_s:.1f}-{most.end_s:.1f} s{others}",
    )
