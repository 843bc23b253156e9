"""Stored scores under a policy, many media at once. Pure.

The same as `policy.decide` over a picture and `aggregate.aggregate` over a film, but for what is
shown of it: here the decision alone counts, so that columns of numbers do in place of segments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moderation.packed_scores import Basis, Floats, PackedScores
from moderation.policy import Policy, Rule
from moderation.rolling import BRIDGE_S, different, opening
from moderation.types import Decision

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
    film = _Film(packed, basis, max(BRIDGE_S, 2 * gap_s))
    highest = np.fmax.reduce(packed.values, axis=0)  # NaN where no moment has the label
    found = []
    for rule in policy.rules:
        column = place.get(rule.label)
        if column is None or np.isnan(highest[column]):
            found.append(ABSENT)
        elif highest[column] < opening(rule):
            found.append(Decision.PASS.severity)
        else:
            found.append(film.judge(column, rule))
    return found


class _Film:
    """As `rolling.RollingAggregate`, by counting.

    A run of misses that ends a segment need not be looked for: no window across it holds
    `min_frames`. Nor need windows that end with a miss: the one that ends with the last hit before
    it holds the same ones.
    """

    def __init__(self, packed: PackedScores, basis: Basis, bridge_s: float) -> None:
        self._packed = packed
        self._basis = basis
        self._bridge_s = bridge_s
        self._known = ~np.isnan(packed.values)
        self._windows: dict[int, NDArray[np.intp]] = {}

    def judge(self, column: int, rule: Rule) -> int:
        """The worst of the segments that a rule finds, where a score reaches its threshold."""
        seen = np.flatnonzero(self._known[:, column])
        scores = self._packed.values[seen, column]
        first = self._first(seen, rule.window)
        blocking = scores >= (np.inf if rule.block_at is None else rule.block_at)
        if blocking.any():
            enough = blocking & (_within(blocking, first) >= rule.min_frames)
            if enough.any() and self._evident(seen, column, blocking, enough, first, rule):
                return Decision.BLOCK.severity
            return Decision.REVIEW.severity
        opened = (_within(scores >= opening(rule), first) >= rule.min_frames).any()
        return Decision.REVIEW.severity if opened else Decision.PASS.severity

    def _first(self, seen: NDArray[np.intp], window: int) -> NDArray[np.intp]:
        times = self._packed.times
        if len(seen) < len(times):
            return _first_of_window(times[seen], self._bridge_s, window)
        if window not in self._windows:
            self._windows[window] = _first_of_window(times, self._bridge_s, window)
        return self._windows[window]

    def _evident(
        self,
        seen: NDArray[np.intp],
        column: int,
        blocking: NDArray[np.bool_],
        enough: NDArray[np.bool_],
        first: NDArray[np.intp],
        rule: Rule,
    ) -> bool:
        """Whether one of the windows that hold `enough` may block."""
        if rule.block_needs == "score":
            return True
        marked = blocking & (self._basis.boxes[seen, column] >= rule.evidence_at)
        if (enough & (_within(marked, first) > 0)).any():
            return True
        if rule.evidence_frames is None:
            return False
        pictures = self._basis.pictures
        for last in np.flatnonzero(enough & (_within(blocking, first) >= rule.evidence_frames)):
            hits = first[last] + np.flatnonzero(blocking[first[last] : last + 1])
            shown = [pictures[at] if pictures else None for at in seen[hits].tolist()]
            if different(shown) >= rule.evidence_frames:
                return True
        return False


def _first_of_window(times: Floats, bridge_s: float, window: int) -> NDArray[np.intp]:
    """For each moment the first one of the window that ends with it. None reaches across a gap."""
    here = np.arange(len(times))
    starts = np.concatenate(([True], np.diff(times) > bridge_s))
    stretch = np.maximum.accumulate(np.where(starts, here, 0))
    return np.maximum(here - (window - 1), stretch)


def _within(hits: NDArray[np.bool_], first: NDArray[np.intp]) -> NDArray[np.intp]:
    """How many hits each window has."""
    so_far = np.concatenate(([0], np.cumsum(hits)))
    return so_far[1:] - so_far[first]
