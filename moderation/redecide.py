"""Stored scores under a policy, many media at once. Pure.

The same as `policy.decide` over a picture and `aggregate.aggregate` over a film, but for what is
shown of it: here the decision alone counts. Pictures are judged as columns; of a film only what
lies around a hit is gone through, since nothing else can open a segment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moderation.packed_scores import Basis, Floats, PackedScores
from moderation.policy import Policy, Rule
from moderation.rolling import BRIDGE_S, Change, RollingAggregate, closing
from moderation.types import Decision, LabelScore

ABSENT = -1
"""In place of a severity: no model answered the rule's label."""

Severities = NDArray[np.int8]


@dataclass(frozen=True, slots=True, eq=False)
class Rulings:
    """What a policy says of many media. severity: (media,) of `Decision`. rules: (media, rules) of
    what each rule says by itself, ABSENT where its label has no score."""

    severity: Severities
    rules: Severities


def redecide(stored: Sequence[PackedScores], policy: Policy) -> Rulings:
    """Raises ValueError for scores without a basis."""
    rules = np.full((len(stored), len(policy.rules)), ABSENT, np.int8)
    complete = np.empty(len(stored), np.bool_)
    pictures: dict[tuple[str, ...], list[int]] = {}
    for row, packed in enumerate(stored):
        basis = _basis(packed)
        complete[row] = basis.complete
        if basis.gap_s is None:
            pictures.setdefault(packed.labels, []).append(row)
        else:
            rules[row] = _film(packed, basis, basis.gap_s, policy)
    for labels, rows in pictures.items():
        rules[rows] = _pictures([stored[row] for row in rows], labels, policy)
    severity = np.maximum(rules.max(axis=1, initial=0), 0).astype(np.int8)
    needed = np.array([not rule.optional for rule in policy.rules])
    unseen = ((rules == ABSENT) & needed).any(axis=1) | ~complete
    severity[unseen] = np.maximum(severity[unseen], policy.on_failure.severity)
    return Rulings(severity, rules)


def _basis(packed: PackedScores) -> Basis:
    if packed.basis is None:
        raise ValueError("too little was stored to decide again")
    return packed.basis


def _pictures(stored: Sequence[PackedScores], labels: Sequence[str], policy: Policy) -> Severities:
    """Pictures that have the same labels: (pictures, rules)."""
    peaks = np.empty((len(stored), len(labels)))
    boxes = np.empty_like(peaks)
    columns = np.arange(len(labels))
    for row, packed in enumerate(stored):
        # The first view of the highest score, as in `summarise`, and the boxes of that one.
        best = np.where(np.isnan(packed.values), -np.inf, packed.values).argmax(axis=0)
        peaks[row] = packed.values[best, columns]
        boxes[row] = _basis(packed).boxes[best, columns]
    place = {label: column for column, label in enumerate(labels)}
    found = np.full((len(stored), len(policy.rules)), ABSENT, np.int8)
    for at, rule in enumerate(policy.rules):
        column = place.get(rule.label)
        if column is not None:
            found[:, at] = _judged(peaks[:, column], boxes[:, column], rule)
    return found


def _judged(peaks: Floats, boxes: Floats, rule: Rule) -> Severities:
    """As `policy.judge`."""
    review_at = np.inf if rule.review_at is None else rule.review_at
    block_at = np.inf if rule.block_at is None else rule.block_at
    evidence = (boxes >= rule.evidence_at) | (rule.block_needs == "score")
    severity = np.where(
        (peaks >= block_at) & evidence,
        Decision.BLOCK.severity,
        np.where(
            peaks >= min(review_at, block_at), Decision.REVIEW.severity, Decision.PASS.severity
        ),
    )
    return np.where(np.isnan(peaks), ABSENT, severity).astype(np.int8)


def _film(packed: PackedScores, basis: Basis, gap_s: float, policy: Policy) -> list[int]:
    place = {label: column for column, label in enumerate(packed.labels)}
    return [
        ABSENT
        if rule.label not in place
        else _of_rule(packed, basis, gap_s, place[rule.label], policy, rule)
        for rule in policy.rules
    ]


def _of_rule(
    packed: PackedScores, basis: Basis, gap_s: float, column: int, policy: Policy, rule: Rule
) -> int:
    """The worst of the segments that a rule finds."""
    values = packed.values[:, column]
    seen = np.flatnonzero(~np.isnan(values))
    if not len(seen):
        return ABSENT
    hits = np.flatnonzero(values[seen] >= closing(rule))
    if not len(hits):
        return Decision.PASS.severity
    # So many misses in a row end whatever a hit has begun, and leave no trace.
    misses = rule.window - rule.min_frames + 1
    near = np.unique((hits[:, None] + np.arange(misses + 1)).ravel())
    alone = policy.model_copy(update={"rules": (rule,)})
    rolling = RollingAggregate(alone, bridge_s=max(BRIDGE_S, 2 * gap_s))
    changes: list[Change] = []
    for at in seen[near[near < len(seen)]].tolist():
        surest = float(basis.boxes[at, column])
        boxes = () if np.isnan(surest) else ((0.0, 0.0, 1.0, 1.0, surest),)
        found = LabelScore(rule.label, float(values[at]), model="", boxes=boxes)
        picture = basis.pictures[at] if basis.pictures else None
        changes += rolling.add(float(packed.times[at]), {rule.label: found}, None, picture)
    changes += rolling.finish()
    return max((change.passage.decision.severity for change in changes), default=0)
