"""What pages show, from what is stored. Pure but for the addresses of media."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from api.console import links
from api.console.access import Visitor
from moderation.curves import MAX_POINTS, Curve, thin
from moderation.packed_scores import PackedScores
from moderation.policy import Policy
from moderation.store.evidence import Shown
from moderation.store.records import ItemRow
from moderation.store.review_records import ReviewRow
from moderation.timeline import Drawing, draw
from moderation.types import Decision, Segment, Verdict


@dataclass(frozen=True, slots=True)
class Card:
    """An item in the queue's grid. still: of its worst moment, blurred. claimed_by: whoever has it
    now, by name."""

    item_id: str
    kind: str
    state: str
    decision: str | None
    label: str | None
    score: float | None
    still: str
    created: datetime
    source: str | None
    escalated: bool
    audit: bool
    claimed_by: str | None
    mine: bool


@dataclass(frozen=True, slots=True)
class Bar:
    """A label's score beside the policy's limits. reached: the decision that it asks for."""

    label: str
    score: float
    review_at: float | None
    block_at: float | None
    reached: Decision


@dataclass(frozen=True, slots=True)
class Still:
    """A picture: as it is, and veiled. boxes: [x1, y1, x2, y2, score], fractions of it. time_s: of
    a film; segment: the part that it is of."""

    clear: str
    veiled: str
    boxes: Sequence[Sequence[float]] = ()
    time_s: float | None = None
    segment: Segment | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """What there is to look at of an item. proxy: the film. ratio: width by height."""

    kind: str
    stills: tuple[Still, ...]
    proxy: str | None
    drawing: Drawing | None
    duration_s: float | None
    width: int
    height: int


def card(
    row: ReviewRow, item: ItemRow, who: Visitor, names: Mapping[str, str], now: datetime
) -> Card:
    held = row.claim_until is not None and row.claim_until > now
    return Card(
        item_id=row.item_id,
        kind=item.kind,
        state=row.state.value,
        decision=None if item.verdict is None else item.verdict.decision.value,
        label=row.label,
        score=row.score,
        still=links.media(who, item.id, f"{worst_frame(item)}-blur.webp"),
        created=row.created,
        source=item.source,
        escalated=row.escalated,
        audit=row.audit,
        claimed_by=names.get(row.claimed_by or "", row.claimed_by) if held else None,
        mine=held and row.claimed_by == who.account.id,
    )


def worst_frame(item: ItemRow) -> str:
    """The stem of the derivative that shows the worst of an item."""
    if item.kind == "image":
        return "picture"
    segments = (item.verdict.segments if item.verdict is not None else None) or []
    worst = max(segments, key=lambda one: (one.decision.severity, one.score), default=None)
    return frame_name(0.0 if worst is None else worst.peak_s)


def frame_name(time_s: float) -> str:
    return f"frame-{round(time_s * 1000)}"


def bars(verdict: Verdict, policy: Policy) -> list[Bar]:
    """The gravest first, then by score; labels without a rule last."""
    rules = {rule.label: rule for rule in policy.rules}
    found = []
    for label, score in verdict.scores.items():
        rule = rules.get(label)
        review_at, block_at = (None, None) if rule is None else (rule.review_at, rule.block_at)
        reached = Decision.PASS
        if block_at is not None and score >= block_at:
            reached = Decision.BLOCK
        elif review_at is not None and score >= review_at:
            reached = Decision.REVIEW
        found.append(Bar(label, score, review_at, block_at, reached))
    return sorted(found, key=lambda one: (-one.reached.severity, -one.score, one.label))


def look(who: Visitor, item: ItemRow, shown: Shown, packed: Sequence[PackedScores]) -> Look:
    verdict = item.verdict
    if item.kind == "image":
        reasons = [] if verdict is None else verdict.reasons
        boxes = [box for one in reasons for box in one.boxes]
        stills: tuple[Still, ...] = (_still(who, item.id, "picture", boxes),)
        drawing = proxy = None
    else:
        segments = (verdict.segments if verdict is not None else None) or []
        ordered = sorted(segments, key=lambda one: one.start_s)
        stills = tuple(still for one in ordered for still in _of_segment(who, item.id, one))
        stills = stills or (_still(who, item.id, frame_name(0.0), []),)
        drawing = _drawing(verdict, shown, packed, ordered)
        proxy = links.media(who, item.id, "proxy.mp4")
    return Look(
        kind=item.kind,
        stills=stills,
        proxy=proxy,
        drawing=drawing,
        duration_s=item.duration_s,
        width=item.width or 16,
        height=item.height or 9,
    )


def curves(packed: Sequence[PackedScores]) -> list[Curve]:
    """Of every label; where models of two sets tell it, those of the later one."""
    found: dict[str, Curve] = {}
    for one in packed:
        order = one.times.argsort(kind="stable")
        times, values = one.times[order], one.values[order]
        unseen = np.isnan(values).all(axis=1)
        for number, label in enumerate(one.labels):
            # A model that skips a moment that others have seen breaks no line.
            kept = unseen | ~np.isnan(values[:, number])
            points = [
                (float(time_s), None if np.isnan(score) else float(score))
                for time_s, score in zip(times[kept], values[kept, number], strict=True)
            ]
            found[label] = Curve(label, thin(points, MAX_POINTS))
    return [found[label] for label in sorted(found)]


def _drawing(
    verdict: Verdict | None,
    shown: Shown,
    packed: Sequence[PackedScores],
    segments: Sequence[Segment],
) -> Drawing | None:
    if verdict is None or not shown.duration_s:
        return None
    unseen = verdict.coverage.unseen or []
    return draw(curves(packed), segments, unseen, shown.policy, shown.duration_s)


def _of_segment(who: Visitor, item_id: str, one: Segment) -> list[Still]:
    """Its peak; and the frame with boxes, where that is another one."""
    boxes = one.boxes or []
    same = one.boxes_s is None or frame_name(one.boxes_s) == frame_name(one.peak_s)
    peak = _still(who, item_id, frame_name(one.peak_s), boxes if same else [], one.peak_s, one)
    if same or one.boxes_s is None:
        return [peak]
    return [peak, _still(who, item_id, frame_name(one.boxes_s), boxes, one.boxes_s, one)]


def _still(
    who: Visitor,
    item_id: str,
    stem: str,
    boxes: Sequence[Sequence[float]],
    time_s: float | None = None,
    segment: Segment | None = None,
) -> Still:
    clear = links.media(who, item_id, f"{stem}.webp")
    veiled = links.media(who, item_id, f"{stem}-blur.webp")
    return Still(clear, veiled, boxes, time_s, segment)
