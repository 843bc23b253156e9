"""Whether scores are distributed as they were: two samples against each other. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BARS: Final = 20
"""Bins of the histogram, of equal width from 0 to 1."""
SHIFTED: Final = 0.1
MOVED: Final = 0.25
"""Readings of the index, see `stability_index`."""
LEAST: Final = 100
"""With fewer scores in a sample there is no index."""
_TENTHS: Final = np.arange(1, 10) / 10


@dataclass(frozen=True, slots=True)
class Histogram:
    """Scores in BARS bins. shares: of all, they sum to 1, or are 0 where there are none."""

    count: int
    shares: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """before, after: the two samples. index: None where one of them has less than LEAST. chance:
    what the index stays below 19 times of 20 while nothing changes."""

    before: Histogram
    after: Histogram
    index: float | None
    chance: float | None

    @property
    def reading(self) -> str:
        """few (scores) | stable | shifted | moved; an index that chance explains is stable."""
        if self.index is None or self.chance is None:
            return "few"
        if self.index < SHIFTED or self.index <= self.chance:
            return "stable"
        return "shifted" if self.index <= MOVED else "moved"


def compare(before: Floats, after: Floats) -> Comparison:
    """before, after: scores, 0..1, in any order; either may be empty."""
    index = chance = None
    if min(len(before), len(after)) >= LEAST:
        edges = tenths(before)
        index = stability_index(_counts(before, edges), _counts(after, edges))
        chance = by_chance(len(edges) + 1, len(before), len(after))
    return Comparison(histogram(before), histogram(after), index, chance)


def histogram(scores: Floats) -> Histogram:
    found, _ = np.histogram(np.clip(scores, 0, 1), BARS, (0.0, 1.0))
    shares = found / max(len(scores), 1)
    return Histogram(len(scores), tuple(float(share) for share in shares))


def share_above(scores: Floats, limit: float) -> float:
    """Part of the scores that reach the limit; of none, 0."""
    return float((scores >= limit).mean()) if len(scores) else 0.0


def tenths(scores: Floats) -> Floats:
    """Edges of bins that each hold a tenth of the scores. A score that is in many tenths has a bin
    of its own, so that going below it is seen as well as going above."""
    values, times = np.unique(np.quantile(scores, _TENTHS, method="lower"), return_counts=True)
    below = np.nextafter(values[times > 1], -math.inf)
    return np.sort(np.concatenate([values, below]))


def stability_index(before: NDArray[np.int64], after: NDArray[np.int64]) -> float:
    """The population stability index of two counts by bin: the sum of (a - b) ln(a / b), where b
    and a are a bin's shares before and after.

    It is Jeffreys' divergence (Kullback and Leibler 1951), known by this name from N. Siddiqi,
    Credit Risk Scorecards (2006), with the usual reading: below 0.1 stable, up to 0.25 shifted,
    above it moved. Half a score is added to each bin, so that an empty one counts as rare and not
    as impossible. 0 or more; 0 where the shares are the same.
    """
    half = 0.5
    b = (before + half) / (before.sum() + half * len(before))
    a = (after + half) / (after.sum() + half * len(after))
    return float(((a - b) * np.log(a / b)).sum())


def by_chance(bins: int, before: int, after: int) -> float:
    """What the index stays below 19 times of 20 while nothing changes: it is then near to
    (1 / before + 1 / after) times a chi-square of one degree of freedom less than there are bins
    (B. Yurdakul, Statistical Properties of Population Stability Index, 2018). That one's quantile
    is Wilson and Hilferty's."""
    free = max(bins - 1, 1)
    spread = 2 / (9 * free)
    quantile = free * (1 - spread + NormalDist().inv_cdf(0.95) * math.sqrt(spread)) ** 3
    return quantile * (1 / before + 1 / after)


def _counts(scores: Floats, edges: Floats) -> NDArray[np.int64]:
    """A score that is an edge counts below it."""
    found = np.searchsorted(edges, scores, side="left")
    return np.bincount(found, minlength=len(edges) + 1).astype(np.int64)
