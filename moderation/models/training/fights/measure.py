"""Figures of `fights` on clips that it never saw: whole cameras, and whole sources, left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moderation.models.training import metrics
from moderation.models.training.datasets import Clip
from moderation.models.training.fights.clips import Fold
from moderation.models.training.fights.features import Windows
from moderation.models.training.fights.logistic import fit_wide
from moderation.models.training.fights.recipe import Recipe
from moderation.models.training.heads import F32, F64, Head

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Figure:
    """One kind of left-out data. interval: 95 %, whole cameras (or sources' parts) drawn anew."""

    name: str
    fights: int
    others: int
    auc: float
    interval: tuple[float, float]
    recall_5: float
    """Recall at 5 % false positives: fewer than fifty clips cannot tell 2 %."""


def fit(data: Windows, clips: Sequence[Clip], keep: NDArray[np.bool_], recipe: Recipe) -> Head:
    """A head of the clips in `keep` (clips,). A clip counts once, however many windows it has."""
    rows = keep[data.clip]
    share = 1 / np.bincount(data.clip, minlength=len(clips))
    main = np.array([clip.source == recipe.folds.main for clip in clips])
    weight = (np.where(main, 1.0, recipe.other_weight) * share)[data.clip[rows]]
    truth = np.array([clip.fight for clip in clips])[data.clip[rows]]
    return fit_wide(data.values[rows], truth, even(weight, truth), c=recipe.c)


def even(weight: F64, truth: NDArray[np.bool_]) -> F64:
    """The weights scaled so that both kinds count the same in all, and the sum stays."""
    half = weight.sum() / 2
    scale = np.where(truth, half / weight[truth].sum(), half / weight[~truth].sum())
    return np.asarray(weight * scale, np.float64)


def leave_out(
    data: Windows,
    clips: Sequence[Clip],
    folds: Sequence[Fold],
    recipe: Recipe,
    progress: Progress | None = None,
) -> F32:
    """(windows,) logits, each by a head that saw nothing of the clip's fold."""
    logits = np.full(len(data.clip), np.nan, np.float32)
    for number, fold in enumerate(folds, start=1):
        keep = np.ones(len(clips), bool)
        keep[fold.rows] = False
        rows = np.isin(data.clip, fold.rows)
        logits[rows] = fit(data, clips, keep, recipe)(data.values[rows])
        if progress is not None:
            progress(f"fights: left out {fold.name}", number, len(folds))
    return logits


def of_clips(logits: F32, owner: NDArray[np.int64], count: int) -> F32:
    """(count,) the mean logit of each clip's windows."""
    total = np.bincount(owner, weights=logits, minlength=count)
    return np.asarray(total / np.bincount(owner, minlength=count), np.float32)


def figures(scores: F32, clips: Sequence[Clip], recipe: Recipe) -> list[Figure]:
    """One for the main source, one for each that was left out alone and has both kinds, one for
    the small sources together, and one for all that is not of the main source."""
    sources = np.array([clip.source for clip in clips])
    main = sources == recipe.folds.main
    small = ~main & ~np.isin(sources, recipe.folds.alone)
    truth = np.array([clip.fight for clip in clips])
    kinds = {
        f"{recipe.folds.main}, cameras left out": main,
        "small sources left out": small,
        **{f"{name} left out": sources == name for name in recipe.folds.alone},
        "all other sources": ~main,
    }
    return [
        figure(
            name,
            scores[rows],
            truth[rows],
            [one for one, kept in zip(clips, rows, strict=True) if kept],
        )
        for name, rows in kinds.items()
        if truth[rows].any() and not truth[rows].all()
    ]


def figure(name: str, scores: F32, truth: NDArray[np.bool_], clips: Sequence[Clip]) -> Figure:
    """AUC and recall with an interval over cameras: clips of one camera are no two witnesses."""
    groups = [f"{clip.source}/{clip.camera}" for clip in clips]
    fights, others = scores[truth], scores[~truth]
    return Figure(
        name=name,
        fights=len(fights),
        others=len(others),
        auc=metrics.auc(fights, others),
        interval=metrics.bootstrap_groups(metrics.auc, scores, truth, groups),
        recall_5=metrics.recall_at(fights, others, 0.05),
    )
