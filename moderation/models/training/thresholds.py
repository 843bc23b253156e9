"""Thresholds from a stated cost: what a miss, a needless look and a wrong block are worth. Pure.

The unit of cost is one needless review. `prevalence` is the share of pictures that show a label,
each label by itself; the rest are ordinary. A threshold of one label costs what it misses and what
it shows of ordinary pictures that no other label shows already; all labels share what may be shown
in all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Flags = NDArray[np.bool_]
MOST_OF_A_SOURCE = 200
"""Pictures of one source that count: a large source must not decide alone, nor one of thirty."""
BISECTIONS = 30


@dataclass(frozen=True, slots=True)
class Costs:
    """prevalence: share of pictures that show a label; miss, wrong_block: in needless reviews.
    max_review, max_block: the largest share of ordinary pictures, all labels together."""

    prevalence: float = 0.01
    miss: float = 20.0
    wrong_block: float = 50.0
    max_review: float = 0.02
    max_block: float = 0.001


PRESETS: Mapping[str, Costs] = {
    "default": Costs(),
    "strict": Costs(miss=60.0, max_review=0.06),
    "lenient": Costs(miss=7.0, wrong_block=150.0, max_review=0.006, max_block=0.0005),
}
"""strict: a miss costs three times as much, and three times as many looks are paid for. lenient: a
third of both; and a wrong block costs three times as much."""


@dataclass(frozen=True, slots=True, eq=False)
class Positives:
    """Scores (n,) 0..1 of pictures that show one label, their sources (n,), and whether a box was
    found (n,) where that is known."""

    label: str
    scores: F64
    sources: NDArray[np.str_]
    boxed: Flags | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Ordinary:
    """Ordinary pictures: scores[label] (m,) 0..1, -inf where the label was not scored; boxed as in
    Positives."""

    files: NDArray[np.str_]
    sources: NDArray[np.str_]
    scores: Mapping[str, F64]
    boxed: Mapping[str, Flags]

    def __len__(self) -> int:
        return len(self.files)

    def where(self, keep: Flags) -> Ordinary:
        """The pictures that `keep` (m,) names."""
        return Ordinary(
            self.files[keep],
            self.sources[keep],
            {label: of[keep] for label, of in self.scores.items()},
            {label: of[keep] for label, of in self.boxed.items()},
        )


@dataclass(frozen=True, slots=True)
class Limits:
    """Thresholds of one label; None: never. `evidence`: it blocks only with a box."""

    label: str
    review_at: float | None
    block_at: float | None
    evidence: bool = False


def choose(
    positives: Sequence[Positives],
    ordinary: Ordinary,
    rules: Sequence[Limits],
    costs: Costs,
) -> tuple[Limits, ...]:
    """Thresholds of least cost for the labels that have positives; the others keep those of
    `rules`, and what they show counts.

    Labels that do not block under `rules` do not block here either: that is the policy's choice, as
    is whether a block needs a box.
    """
    known = {of.label: of for of in positives}
    free = [rule.label for rule in rules if rule.label in known and rule.review_at is not None]
    blocking = [rule.label for rule in rules if rule.label in known and rule.block_at is not None]
    fixed = [rule for rule in rules if rule.label not in known]
    review = minimise(
        [known[label] for label in free],
        ordinary,
        reached(ordinary, fixed, block=False),
        gain=costs.prevalence * costs.miss,
        price=1 - costs.prevalence,
        limit=costs.max_review,
    )
    evidence = {rule.label: rule.evidence for rule in rules}
    block = minimise(
        [_blockable(known[label], evidence[label]) for label in blocking],
        _blockable_ordinary(ordinary, evidence),
        reached(ordinary, fixed, block=True),
        # A block of the right picture saves the look; a wrong one costs what the look would have
        # cost less, for it was shown anyway.
        gain=costs.prevalence,
        price=(1 - costs.prevalence) * (costs.wrong_block - 1),
        limit=costs.max_block,
    )
    found = []
    for rule in rules:
        review_at, block_at = rule.review_at, rule.block_at
        if rule.label in review:
            review_at = told(review[rule.label])
        if rule.label in block:
            block_at = max(told(block[rule.label]), review_at or 0.0)
        found.append(replace(rule, review_at=review_at, block_at=block_at))
    return tuple(found)


def minimise(
    positives: Sequence[Positives],
    ordinary: Ordinary,
    already: Flags,
    *,
    gain: float,
    price: float,
    limit: float,
) -> dict[str, float]:
    """label -> threshold, that make price * share - gain * (sum of recalls) least, where `share` is
    the part of ordinary pictures that reach any threshold, `already` (m,) among them, and is at
    most `limit`; inf where a label is better not shown at all.

    A multiplier on the price is the least at which the limit holds; single moves then use up what
    it leaves. Exact for one label. Thresholds lie in the middle of the gap between scores.
    """
    curves = [_Curve.of(of, ordinary) for of in positives]
    flat = {curve.label: math.inf for curve in curves}
    if not curves or not len(ordinary):
        return flat

    def solve(multiplier: float) -> dict[str, float]:
        return _descend(curves, already, gain, price * multiplier, flat)

    best = solve(1.0)
    if _share(curves, already, best) > limit:
        low, high = 0.0, 20.0  # of the logarithm of the multiplier
        best = solve(math.exp(high))
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            found = solve(math.exp(middle))
            if _share(curves, already, found) <= limit:
                high, best = middle, found
            else:
                low = middle
        if _share(curves, already, best) > limit:  # what is fixed fills it alone
            return flat
        best = _polish(curves, already, gain, price, limit, best)
    return {curve.label: curve.middle(best[curve.label]) for curve in curves}


@dataclass(frozen=True, slots=True, eq=False)
class _Curve:
    """One label: cuts (k,), its positives' distinct scores, rising; recall (k,) at each;
    ordinary (m,) scores, and place (m,): how many cuts each of them reaches."""

    label: str
    cuts: F64
    recall: F64
    ordinary: F64
    place: NDArray[np.int64]

    @classmethod
    def of(cls, positives: Positives, ordinary: Ordinary) -> _Curve:
        weight = source_weights(positives.sources)
        usable = np.isfinite(positives.scores)
        cuts, place = np.unique(positives.scores[usable], return_inverse=True)
        mass = np.bincount(place, weight[usable], minlength=len(cuts))
        scores = ordinary.scores.get(positives.label, np.full(len(ordinary), -np.inf))
        return cls(
            positives.label,
            cuts,
            np.cumsum(mass[::-1])[::-1] / weight.sum(),
            scores,
            np.searchsorted(cuts, scores, "right"),
        )

    def counts(self, free: Flags) -> NDArray[np.int64]:
        """Ordinary pictures among `free` that reach each cut (k,)."""
        of_place = np.bincount(self.place[free], minlength=len(self.cuts) + 1)
        return of_place[::-1].cumsum()[::-1][1:]

    def middle(self, cut: float) -> float:
        """The threshold in the middle, in logits, between a cut and what lies next below it."""
        if not math.isfinite(cut):
            return cut
        below = [of[of < cut] for of in (self.cuts, self.ordinary)]
        next_ = max((float(of.max()) for of in below if len(of)), default=-math.inf)
        if next_ <= 0 or cut >= 1:
            return cut
        return float(_sigmoid((_logit(next_) + _logit(cut)) / 2))


def _descend(
    curves: Sequence[_Curve],
    already: Flags,
    gain: float,
    price: float,
    start: Mapping[str, float],
) -> dict[str, float]:
    """One label after the other takes the cut of least cost, given the others, until none moves."""
    found = dict(start)
    for _ in range(20):
        before = dict(found)
        for curve in curves:
            free = ~already
            for other in curves:
                if other is not curve:
                    free &= other.ordinary < found[other.label]
            cost = price * curve.counts(free) / len(already) - gain * curve.recall
            place = int(np.argmin(cost)) if len(cost) else -1
            found[curve.label] = (
                float(curve.cuts[place]) if place >= 0 and cost[place] < 0 else math.inf
            )
        if found == before:
            break
    return found


def _polish(
    curves: Sequence[_Curve],
    already: Flags,
    gain: float,
    price: float,
    limit: float,
    start: Mapping[str, float],
) -> dict[str, float]:
    """Single moves that keep the limit, each time the one that lowers the cost most: a multiplier
    alone leaves unused what lies between two corners of the curve."""
    found = dict(start)
    allowed = math.floor(limit * len(already) + 1e-9)
    while True:
        best: tuple[float, str, float] | None = None
        for curve in curves:
            rest = _shown([c for c in curves if c is not curve], already, found)
            cuts, recall = np.append(curve.cuts, math.inf), np.append(curve.recall, 0.0)
            more = np.append(curve.counts(~rest), 0)
            cost = price * more / len(already) - gain * recall
            now = int(np.searchsorted(cuts, found[curve.label], "left"))
            change = np.where(more + rest.sum() <= allowed, cost - cost[now], 0.0)
            place = int(np.argmin(change))
            if change[place] < (best[0] if best else -1e-12):
                best = (float(change[place]), curve.label, float(cuts[place]))
        if best is None:
            return found
        found[best[1]] = best[2]


def _shown(curves: Sequence[_Curve], already: Flags, found: Mapping[str, float]) -> Flags:
    shown = already.copy()
    for curve in curves:
        shown |= curve.ordinary >= found[curve.label]
    return shown


def _share(curves: Sequence[_Curve], already: Flags, found: Mapping[str, float]) -> float:
    return float(_shown(curves, already, found).mean())


def reached(ordinary: Ordinary, limits: Sequence[Limits], *, block: bool) -> Flags:
    """Ordinary pictures (m,) that any of the thresholds sends to review or worse; `block`: that it
    blocks."""
    hit = np.zeros(len(ordinary), bool)
    for rule in limits:
        scores = ordinary.scores.get(rule.label)
        if scores is not None:
            hit |= hits(scores, ordinary.boxed.get(rule.label), rule, block=block)
    return hit


def hits(scores: F64, boxed: Flags | None, rule: Limits, *, block: bool) -> Flags:
    """Which scores (n,) reach one label's threshold, as the policy judges them. Where nothing is
    known of boxes, one is taken to be there: the worst case for ordinary pictures."""
    blocks = np.zeros(len(scores), bool)
    if rule.block_at is not None:
        blocks = scores >= rule.block_at
    if block:
        return blocks & boxed if rule.evidence and boxed is not None else blocks
    return blocks if rule.review_at is None else blocks | (scores >= rule.review_at)


def source_weights(sources: NDArray[np.str_]) -> F64:
    """(n,): a source's pictures weigh its number of them, at most MOST_OF_A_SOURCE, in all."""
    _, place, count = np.unique(sources, return_inverse=True, return_counts=True)
    return np.asarray(np.minimum(count, MOST_OF_A_SOURCE) / np.maximum(count, 1))[place]


def expected_cost(
    recalls: Sequence[tuple[float, float]], reviewed: float, blocked: float, costs: Costs
) -> float:
    """Needless reviews' worth a picture. recalls: (review or worse, block) of each label; reviewed,
    blocked: shares of ordinary pictures, the first with the second in it."""
    missed = sum(1 - review for review, _ in recalls)
    saved = sum(block for _, block in recalls)
    ordinary = (reviewed - blocked) + costs.wrong_block * blocked
    return costs.prevalence * (costs.miss * missed - saved) + (1 - costs.prevalence) * ordinary


def told(threshold: float) -> float:
    """Rounded up to as few digits as keep its distance from 1 to about one part in a hundred: what
    a policy file shows, never lower than what was chosen. 1.0 for "never"."""
    if not threshold < 1:
        return 1.0
    digits = max(3, 2 - math.floor(math.log10(1 - threshold)))
    step = 10.0**digits
    return min(1.0, round(math.ceil(threshold * step - 1e-9) / step, digits))


def _blockable(of: Positives, evidence: bool) -> Positives:
    if not evidence or of.boxed is None:
        return of
    return replace(of, scores=np.where(of.boxed, of.scores, -np.inf))


def _blockable_ordinary(ordinary: Ordinary, evidence: Mapping[str, bool]) -> Ordinary:
    scores = {
        label: np.where(ordinary.boxed[label], of, -np.inf)
        if evidence.get(label) and label in ordinary.boxed
        else of
        for label, of in ordinary.scores.items()
    }
    return replace(ordinary, scores=scores)


def _logit(chance: float) -> float:
    chance = min(max(chance, 1e-12), 1 - 1e-12)
    return math.log(chance / (1 - chance))


def _sigmoid(value: float) -> float:
    return 0.5 * (1 + math.tanh(0.5 * value))
