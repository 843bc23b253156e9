"""Figures of a binary score, in numpy alone. Positives are 1, scores higher = more so."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating]
Interval = tuple[float, float]
Z95 = 1.959963984540054


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


def wilson(hits: int, count: int) -> Interval:
    """95 % interval of a proportion; (0, 1) for a count of none."""
    if count == 0:
        return (0.0, 1.0)
    share, square = hits / count, Z95 * Z95
    centre = share + square / (2 * count)
    spread = Z95 * math.sqrt(share * (1 - share) / count + square / (4 * count * count))
    scale = 1 + square / count
    low = (centre - spread) / scale if hits else 0.0  # exact: rounding leaves 1e-17
    high = (centre + spread) / scale if hits < count else 1.0
    return (low, high)


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


def calibration_error(positives: Scores, negatives: Scores, bins: int = 10) -> float:
    """ECE of probabilities at **equal** prevalence: positives and negatives weigh the same."""
    scores = np.concatenate([positives, negatives])
    truth = np.concatenate([np.ones(len(positives)), np.zeros(len(negatives))])
    weight = np.where(truth == 1, 0.5 / max(len(positives), 1), 0.5 / max(len(negatives), 1))
    places = np.minimum((scores * bins).astype(int), bins - 1)
    error = 0.0
    for place in range(bins):
        inside = places == place
        error += abs(float((weight[inside] * (scores[inside] - truth[inside])).sum()))
    return error
