"""Folds of whole sources: what is fitted on some is measured on the others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]
MOST = 4


def source_folds(
    sources: NDArray[np.str_], truth: NDArray[np.bool_], most: int = MOST
) -> I64 | None:
    """Fold (n,) of each row, so that no source lies in two and each has positives and negatives
    of about the same number; at most `most`. None where sources do not allow two such folds.

    sources, truth: (n,). The largest sources are placed first, each where there is least.
    """
    names = np.unique(sources)
    counts = {
        str(name): (int((mine := sources == name)[truth].sum()), int(mine[~truth].sum()))
        for name in names
    }
    for folds in range(min(most, len(names)), 1, -1):
        placed = _place(counts, folds)
        if placed is not None:
            return np.asarray([placed[str(name)] for name in sources], np.int64)
    return None


def _place(counts: dict[str, tuple[int, int]], folds: int) -> dict[str, int] | None:
    whole = np.maximum(np.sum(list(counts.values()), axis=0), 1)
    filled = np.zeros((folds, 2))
    placed: dict[str, int] = {}

    def order(name: str) -> tuple[bool, float, str]:
        # Sources of both kinds first: they fill a fold by themselves wherever they lie.
        shares = np.asarray(counts[name]) / whole
        return (min(counts[name]) == 0, -float(shares.sum()), name)

    for name in sorted(counts, key=order):
        share = np.asarray(counts[name]) / whole
        fold = int(np.argmin(filled @ (share > 0) + 1e-3 * filled.sum(axis=1)))
        placed[name] = fold
        filled[fold] += share
    return placed if (filled > 0).all() else None
