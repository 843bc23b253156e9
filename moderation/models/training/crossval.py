"""Leave-one-source-out: every score comes from a head that saw neither the picture's source
nor, for its counterpart, the source of the ordinary pictures it is compared with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moderation.models.training.heads import fit_head
from moderation.models.training.recipe import SAFE_FOLDS, Examples, Task

Progress = Callable[[str, int, int], None]
F32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Fold:
    """Logits of one left-out source of positives, and of one left-out fold of negatives, with the
    rows that they belong to.

    `inside`: the negatives are the source's own (clips), not ordinary pictures.
    """

    source: str
    positives: F32
    negatives: F32
    negative_rows: NDArray[np.int64]
    positive_rows: NDArray[np.int64]
    inside: bool = False


def leave_sources_out(data: Examples, task: Task, progress: Progress | None = None) -> list[Fold]:
    """One Fold per pair of a positive source and a fold of ordinary sources, then one per
    source that has clips of both kinds."""
    positive_sources = sorted(set(data.sources[data.truth]))
    clip = np.char.startswith(data.sources, "clips_")
    jobs = [(source, fold) for source in positive_sources for fold in SAFE_FOLDS]
    folds = []
    for index, (source, fold) in enumerate(jobs):
        ordinary = np.isin(data.sources, list(fold)) & ~data.truth & ~clip
        own = data.sources == source
        keep = ~own & ~np.isin(data.sources, list(fold))
        head = fit_head(data.features[keep], data.truth[keep], c=task.c)
        rows, shown = np.flatnonzero(ordinary), np.flatnonzero(own & data.truth)
        positives = head(data.features[shown])
        folds.append(Fold(source, positives, head(data.features[rows]), rows, shown))
        if fold is SAFE_FOLDS[0] and (own & clip & ~data.truth).any():
            rows = np.flatnonzero(own & ~data.truth)
            folds.append(
                Fold(source, positives, head(data.features[rows]), rows, shown, inside=True)
            )
        if progress is not None:
            progress(f"left out: {task.label}", index + 1, len(jobs))
    return folds


def pooled(folds: list[Fold]) -> tuple[F32, F32]:
    """(positives, negatives): logits of all pairs with ordinary pictures."""
    plain = [fold for fold in folds if not fold.inside]
    return (
        np.concatenate([fold.positives for fold in plain]),
        np.concatenate([fold.negatives for fold in plain]),
    )


def mean_logits(folds: list[Fold], count: int) -> F32:
    """Row -> the mean logit that heads without its source gave it; NaN for other rows.

    count: rows of the examples.
    """
    total, times = np.zeros(count), np.zeros(count)
    for fold in folds:
        np.add.at(total, fold.negative_rows, fold.negatives)
        np.add.at(times, fold.negative_rows, 1)
        if not fold.inside:  # its positives are those of another fold
            np.add.at(total, fold.positive_rows, fold.positives)
            np.add.at(times, fold.positive_rows, 1)
    return np.where(times > 0, total / np.maximum(times, 1), np.nan).astype(np.float32)
