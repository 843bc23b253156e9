"""Figures of a binary score, in numpy alone. Positives are 1, scores higher = more so."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from moderation.chance import Interval as Interval
from moderation.chance import wilson as wilson

Scores = NDArray[np.floating]


def auc(positives: Scores, negatives: Scores) -> float:
    """Area under the ROC curve: the chance that a positive outranks a negative, ties half.
    NaN when either side is empty."""
    if not len(positives) or not len(negatives):
        return math.nan
    ordered = np.sort(negatives)
    below = np.searchsorted(ordered, positives, "left")
    upto = np.searchsorted(ordered, positives, "right")
    return float((below + upto).sum() / (2 * len(positives) * len(negatives)))


def average_precision(positives: Scores, negatives: Scores) -> float:
    """Precision averaged over recall, at every distinct score. NaN without positives."""
    if not len(positives):
        return math.nan
    cuts, counts = np.unique(positives, return_counts=True)
    hits = len(positives) - np.searchsorted(np.sort(positives), cuts, "left")
    false = len(negatives) - np.searchsorted(np.sort(negatives), cuts, "left")
    return float((counts * hits / (hits + false)).sum() / len(positives))


def threshold_at(negatives: Scores, rate: float) -> float:
    """The lowest threshold that at most `rate` of the negatives reach (`score >= threshold`)."""
    allowed = math.floor(rate * len(negatives))
    ordered = np.sort(np.asarray(negatives, np.float64))[::-1]
    if allowed >= len(ordered):
        return -math.inf
    return float(np.nextafter(ordered[allowed], math.inf))


def rate_at(scores: Scores, threshold: float) -> float:
    """The part of the scores that reach the threshold. NaN for none."""
    return float((scores >= threshold).mean()) if len(scores) else math.nan


def recall_at(positives: Scores, negatives: Scores, rate: float) -> float:
    """Recall at the threshold that at most `rate` of the negatives reach."""
    return rate_at(positives, threshold_at(negatives, rate))


def bootstrap(
    figure: Callable[[Scores, Scores], float],
    positives: Scores,
    negatives: Scores,
    *,
    rounds: int = 200,
    seed: int = 0,
) -> Interval:
    """95 % percentile interval of a figure, positives and negatives drawn apart."""
    if not len(positives) or not len(negatives):
        return (math.nan, math.nan)
    rng = np.random.default_rng(seed)
    values = [
        figure(
            positives[rng.integers(len(positives), size=len(positives))],
            negatives[rng.integers(len(negatives), size=len(negatives))],
        )
        for _ in range(rounds)
    ]
    low, high = np.quantile(values, (0.025, 0.975))
    return (float(low), float(high))


def bootstrap_groups(
    figure: Callable[[Scores, Scores], float],
    scores: Scores,
    truth: NDArray[np.bool_],
    groups: Sequence[str],
    *,
    rounds: int = 1000,
    seed: int = 0,
) -> Interval:
    """95 % percentile interval of a figure, whole groups drawn anew: what lies in one group is no
    second witness. scores, truth, groups: (n,)."""
    names = np.asarray(groups, np.str_)
    members = [np.flatnonzero(names == one) for one in sorted(set(groups))]
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(rounds):
        picks = rng.integers(len(members), size=len(members)).tolist()
        rows = np.concatenate([members[pick] for pick in picks])
        if truth[rows].any() and not truth[rows].all():
            drawn.append(figure(scores[rows][truth[rows]], scores[rows][~truth[rows]]))
    if not drawn:
        return (math.nan, math.nan)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return (float(low), float(high))


def at_prevalence(truth: NDArray[np.bool_], prevalence: float | None) -> NDArray[np.float64]:
    """Weights (n,) that sum to 1 and under which positives are `prevalence` of all; None: as
    they come."""
    count = len(truth)
    if prevalence is None:
        return np.full(count, 1 / max(count, 1))
    positives = int(truth.sum())
    return np.where(
        truth, prevalence / max(positives, 1), (1 - prevalence) / max(count - positives, 1)
    )


def calibration_error(
    positives: Scores, negatives: Scores, bins: int = 15, prevalence: float | None = 0.5
) -> float:
    """ECE of probabilities (0..1) over `bins` bins of equal mass, at a stated prevalence of
    positives (None: that of the data). NaN when there is nothing.

    Equal scores lie in one bin, whatever their order.
    """
    scores = np.concatenate([positives, negatives]).astype(np.float64)
    if not len(scores):
        return math.nan
    truth = np.concatenate([np.ones(len(positives), bool), np.zeros(len(negatives), bool)])
    weight = at_prevalence(truth, prevalence)
    _, place = np.unique(scores, return_inverse=True)
    mass = np.bincount(place, weight)
    middle = (np.cumsum(mass) - mass / 2) / mass.sum()
    inside = np.minimum((middle * bins).astype(int), bins - 1)[place]
    gap = np.bincount(inside, weight * (scores - truth), minlength=bins)
    return float(np.abs(gap).sum() / mass.sum())


def overlap(boxes: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.float64]:
    """IoU of each box (n, 4) with each other (m, 4): (n, m). Boxes are x1, y1, x2, y2; one
    without area overlaps nothing."""
    a, b = np.asarray(boxes, np.float64)[:, None], np.asarray(others, np.float64)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared = np.maximum(sides, 0).prod(axis=-1)
    areas = [np.maximum(box[..., 2:] - box[..., :2], 0).prod(axis=-1) for box in (a, b)]
    union = areas[0] + areas[1] - shared
    return np.asarray(np.where(union > 0, shared / np.where(union > 0, union, 1), 0.0))


Detections = Sequence[tuple[NDArray[np.floating], NDArray[np.floating]]]
Truths = Sequence[NDArray[np.floating] | None]


def average_precision_boxes(detections: Detections, truths: Truths, iou: float = 0.5) -> float:
    """Average precision of one class's boxes: the area under the precision envelope over all
    recalls (VOC 2010 and later).

    Both have one entry a picture: detected boxes (k, 4) as x1, y1, x2, y2 with scores (k,); true
    boxes (m, 4), (0, 4) where there is none, or None where nobody boxed the picture, which is
    then left out. The best free detection by score takes a true box it overlaps by `iou` or
    more; a second one on the same box is false. NaN without true boxes.
    """
    scores, hits, total = [np.zeros(0)], [np.zeros(0, bool)], 0
    for (boxes, given), truth in zip(detections, truths, strict=True):
        if truth is None:
            continue
        total += len(truth)
        order = np.argsort(-np.asarray(given, np.float64), kind="stable")
        scores.append(np.asarray(given, np.float64)[order])
        hits.append(_matched(np.asarray(boxes).reshape(-1, 4)[order], truth, iou))
    if not total:
        return math.nan
    score, hit = np.concatenate(scores), np.concatenate(hits)
    order = np.argsort(-score, kind="stable")
    found = np.cumsum(hit[order])
    # Detections of one score come together: their order must not matter.
    last = np.append(np.diff(score[order]) != 0, True)[: len(order)]
    found, shown = found[last], np.flatnonzero(last) + 1
    precision = np.maximum.accumulate((found / shown)[::-1])[::-1]
    return float((np.diff(found, prepend=0) * precision).sum() / total)


def mean_average_precision(
    classes: Mapping[str, tuple[Detections, Truths]], iou: float = 0.5
) -> tuple[float, dict[str, float]]:
    """(mean, class -> average precision); classes without a true box are NaN and not in the
    mean."""
    each = {name: average_precision_boxes(*given, iou=iou) for name, given in classes.items()}
    known = [value for value in each.values() if not math.isnan(value)]
    return (float(np.mean(known)) if known else math.nan, each)


def _matched(
    boxes: NDArray[np.floating], truth: NDArray[np.floating], iou: float
) -> NDArray[np.bool_]:
    """Which detections (k, 4), best first, take a true box (m, 4) that none before took."""
    overlaps = overlap(boxes, np.asarray(truth).reshape(-1, 4))
    free = np.ones(overlaps.shape[1], bool)
    hit = np.zeros(len(boxes), bool)
    for row, near in enumerate(overlaps):
        best = int(np.argmax(np.where(free, near, -1))) if free.any() else -1
        if best >= 0 and near[best] >= iou:
            free[best], hit[row] = False, True
    return hit
