"""Scores of one label, moment by moment -> segments. Pure: no clock, no disk.

For each rule a segment opens when `min_frames` of the last `window` seen moments reach the
opening threshold, and closes after `window - min_frames + 1` seen moments in a row below the
lower closing threshold: with so many misses no window can hold enough hits. It blocks when
`min_frames` of `window` reach `block_at`. A lone moment at `block_at` asks a person; it never
blocks where `min_frames` is above 1.

A rule that needs evidence blocks with a box on one of those frames, or where `evidence_frames` of
the window agree that show different pictures: one picture, however long, agrees with itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from moderation.policy import Policy, Rule, marked
from moderation.types import Decision, LabelScore, Segment

BRIDGE_S = 30.0
"""Seconds without a score that a segment may reach across."""

SAME_BITS = 31
"""Bits of 256 in which the PDQ hashes of one picture may differ, by that hash's authors. More than
near-duplicates may: a frame that looks nearly like another is scored anew, and agrees with it."""

Boxes = tuple[tuple[float, float, float, float, float], ...]


@dataclass(frozen=True, slots=True)
class Passage:
    """A segment with what led to it. `label` and `start_s` name it: they never change.

    start_s: when its first frame appeared; end_s: the last moment at which it was seen; peak_s:
    the own time of the frame of `peak`, the first of the highest score. threshold: the one that
    `decision` rests on. boxes: of the highest-scored frame that has any, at `boxes_s`, rather one
    whose boxes are evidence; sublabel: what that frame shows, or the highest-scored one.
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
    boxes_sublabel: str | None = None

    @property
    def sublabel(self) -> str | None:
        return self.boxes_sublabel or self.peak.sublabel

    def segment(self) -> Segment:
        """The public form; times to the millisecond."""
        return Segment(
            label=self.label,
            decision=self.decision,
            start_s=round(self.start_s, 3),
            end_s=round(self.end_s, 3),
            peak_s=round(self.peak_s, 3),
            score=self.peak.score,
            sublabel=self.sublabel,
            boxes=[list(box) for box in self.boxes] or None,
            boxes_s=to_ms(self.boxes_s),
        )


@dataclass(frozen=True, slots=True)
class Change:
    """What a moment did to a segment, which is given as it is now."""

    kind: Literal["opened", "extended", "closed"]
    passage: Passage


@dataclass(frozen=True, slots=True)
class TrackMemory:
    """What is known of one label: the scores in its window with the hashes of their pictures,
    misses in a row, the last moment that was scored, and the segment, or what may become one."""

    label: str
    recent: tuple[tuple[LabelScore, str | None], ...]
    misses: int
    last_s: float
    run: Passage | None


@dataclass(frozen=True, slots=True)
class RollingMemory:
    """All that another `RollingAggregate` needs to go on where this one stopped."""

    last_s: float | None
    tracks: tuple[TrackMemory, ...]


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
        picture: str | None = None,
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
                own_s = time_s if shown_s is None else shown_s
                changes.append(track.add(time_s, own_s, found, picture))
        return tuple(change for change in changes if change is not None)

    def memory(self) -> RollingMemory:
        return RollingMemory(self._last_s, tuple(track.memory() for track in self._tracks))

    def remember(self, memory: RollingMemory) -> None:
        """Go on from there, before the first moment. Labels that no rule names are forgotten;
        rules that changed judge what comes."""
        self._last_s = memory.last_s
        known = {track.label: track for track in memory.tracks}
        for track in self._tracks:
            if track.label in known:
                track.remember(known[track.label])

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
        self._recent: deque[_Seen] = deque(maxlen=rule.window)
        self._misses = 0
        self._last_s = 0.0
        self._run: Passage | None = None

    def memory(self) -> TrackMemory:
        return TrackMemory(self.label, tuple(self._recent), self._misses, self._last_s, self._run)

    def remember(self, memory: TrackMemory) -> None:
        self._recent.extend(memory.recent)  # the newest, where the window is smaller now
        self._misses = memory.misses
        self._last_s = memory.last_s
        self._run = memory.run

    def expire(self, time_s: float) -> Change | None:
        return self.end() if time_s - self._last_s > self._bridge_s else None

    def add(
        self, time_s: float, shown_s: float, found: LabelScore, picture: str | None
    ) -> Change | None:
        self._last_s = time_s
        self._recent.append((found, picture))
        if found.score < self._closes_at:
            self._misses += 1
            enough = self._rule.window - self._rule.min_frames + 1
            return self.end() if self._misses >= enough else None
        self._misses = 0
        run = _extended(self._run, self._rule, time_s, shown_s, found)
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
        blocking = [one for one in self._recent if one[0].score >= block_at]
        if len(blocking) >= rule.min_frames and _evidence(blocking, rule):
            return Decision.BLOCK, rule.block_at
        opened = sum(one.score >= self._opens_at for one, _ in self._recent) >= rule.min_frames
        if opened or latest.score >= block_at:
            return Decision.REVIEW, self._opens_at
        return Decision.PASS, None


_Seen = tuple[LabelScore, str | None]
"""A score, and the hash of the picture that has it."""


def _evidence(blocking: Sequence[_Seen], rule: Rule) -> bool:
    """Whether what reaches `block_at` may block."""
    if rule.block_needs == "score" or any(marked(found.boxes, rule) for found, _ in blocking):
        return True
    if rule.evidence_frames is None:
        return False
    return different([picture for _, picture in blocking]) >= rule.evidence_frames


def different(pictures: Sequence[str | None]) -> int:
    """How many different pictures there are. None: one of its own."""
    kept: list[int] = []
    for bits in (int(picture, 16) for picture in pictures if picture is not None):
        if all((bits ^ other).bit_count() > SAME_BITS for other in kept):
            kept.append(bits)
    return len(kept) + sum(picture is None for picture in pictures)


def _extended(
    run: Passage | None, rule: Rule, time_s: float, shown_s: float, found: LabelScore
) -> Passage:
    """The run with one more moment; a run of its own where there is none."""
    end_s = max(time_s, shown_s)
    if run is None:
        run = Passage(rule.label, Decision.PASS, None, shown_s, end_s, shown_s, found)
    elif found.score > run.peak.score:
        run = replace(run, end_s=end_s, peak_s=shown_s, peak=found)
    else:
        run = replace(run, end_s=end_s)
    if found.boxes and (not run.boxes or _clearer(found, run, rule)):
        run = replace(
            run,
            boxes=found.boxes,
            boxes_s=shown_s,
            boxes_score=found.score,
            boxes_sublabel=found.sublabel,
        )
    return run


def _clearer(found: LabelScore, run: Passage, rule: Rule) -> bool:
    return (marked(found.boxes, rule), found.score) > (marked(run.boxes, rule), run.boxes_score)


def to_ms(seconds: float | None) -> float | None:
    """Seconds, to the millisecond."""
    return None if seconds is None else round(seconds, 3)
