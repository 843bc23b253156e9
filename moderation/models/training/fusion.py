"""Several scores that speak for one label: a logistic fuser against the simple ways.

The fuser's weights are never negative: more of any component is never less of the label.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moderation.models.training import metrics
from moderation.models.training.groups import source_folds
from moderation.models.training.heads import balanced, fit_head, fit_platt, sigmoid
from moderation.models.training.leftout import LabelScores

F64 = NDArray[np.float64]
Flags = NDArray[np.bool_]
MOST_PARTS = 6
C = 0.1
"""Inverse penalty of the weights over standardised components: weak, for there are few."""


@dataclass(frozen=True, slots=True)
class Fuser:
    """fused logit = sum of weight * component + bias, on raw component logits."""

    names: tuple[str, ...]
    weights: tuple[float, ...]
    bias: float

    def __call__(self, parts: Mapping[str, F64]) -> F64:
        """name -> logits (n,), to fused logits (n,)."""
        rows = np.stack([parts[name] for name in self.names], axis=1)
        return np.asarray(rows @ np.asarray(self.weights) + self.bias)


@dataclass(frozen=True, slots=True)
class SourceFigure:
    """One way to fuse on one source's positives ("all": on everybody's) against all negatives."""

    method: str
    source: str
    positives: int
    negatives: int
    auc: float
    auc_95: metrics.Interval
    recall_2: float
    recall_2_95: metrics.Interval


@dataclass(frozen=True, slots=True)
class FusionReport:
    """Every way on every left-out source, and the fuser to ship: fitted weights on all of them
    where they told more than equal ones of sources that they were not fitted on, else equal
    ones."""

    label: str
    folds: int
    figures: tuple[SourceFigure, ...]
    fuser: Fuser

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "label": self.label,
            "folds_of_sources": self.folds,
            "fuser": {
                "weights": dict(zip(self.fuser.names, self.fuser.weights, strict=True)),
                "bias": self.fuser.bias,
            },
            "figures": [
                {name: getattr(figure, name) for name in SourceFigure.__slots__}
                for figure in self.figures
            ],
        }


def fit_fuser(parts: Mapping[str, F64], truth: Flags, c: float = C) -> Fuser:
    """L2 logistic regression with weights >= 0, both classes weighing the same.

    parts: name -> logits (n,), up to six; truth (n,). Exact: of all subsets of components whose
    free weights come out positive, the one of the lowest loss. Raises ValueError for more than
    six components or none.
    """
    names = tuple(sorted(parts))
    if not 0 < len(names) <= MOST_PARTS:
        raise ValueError(f"between 1 and {MOST_PARTS} components can be fused, not {len(names)}")
    rows = np.stack([np.asarray(parts[name], np.float64) for name in names], axis=1)
    spread = np.maximum(rows.std(axis=0), 1e-6)
    best: tuple[float, NDArray[np.int64], F64, float] | None = None
    for size in range(1, len(names) + 1):
        for subset in combinations(range(len(names)), size):
            chosen = np.asarray(subset, np.int64)
            head = fit_head(rows[:, chosen].astype(np.float32), truth, c=c)
            weight = head.weight.astype(np.float64)
            if (weight < 0).any():
                continue
            loss = _objective(
                rows[:, chosen] @ weight + head.bias, truth, weight * spread[chosen], c
            )
            if best is None or loss < best[0]:
                best = (loss, chosen, weight, head.bias)
    weights = np.zeros(len(names))
    if best is None:  # every component alone points the wrong way
        return Fuser(names, tuple(weights.tolist()), 0.0)
    _, chosen, weight, bias = best
    weights[chosen] = weight
    return Fuser(names, tuple(weights.tolist()), bias)


def equal_fuser(parts: Mapping[str, F64], truth: Flags) -> Fuser:
    """Every component with the same say: each by its spread over the negatives, nothing fitted to
    tell the two apart."""
    names = tuple(sorted(parts))
    means = [float(parts[name][~truth].mean()) for name in names]
    spreads = [max(float(parts[name][~truth].std()), 1e-6) for name in names]
    bias = -sum(mean / spread for mean, spread in zip(means, spreads, strict=True))
    return Fuser(names, tuple(1 / spread for spread in spreads), bias)


def _objective(fused: F64, truth: Flags, scaled: F64, c: float) -> float:
    entropy = np.logaddexp(0, fused) - truth * fused
    return float(c * (balanced(truth) * entropy).sum() + 0.5 * (scaled**2).sum())


Rule = Callable[[Mapping[str, F64], Flags], Callable[[Mapping[str, F64]], F64]]
"""(components, truth) of some sources -> what fuses the components of others."""


def _calibrated(
    join: Callable[[F64], F64],
) -> Rule:
    """A rule that joins calibrated probabilities (n, parts)."""

    def rule(parts: Mapping[str, F64], truth: Flags) -> Callable[[Mapping[str, F64]], F64]:
        fitted = {name: fit_platt(z.astype(np.float32), truth) for name, z in parts.items()}
        return lambda given: join(
            np.stack([sigmoid(a * given[name] + b) for name, (a, b) in fitted.items()], axis=1)
        )

    return rule


def _alone(name: str) -> Rule:
    return lambda parts, truth: lambda given: given[name]


LOGISTIC, EQUAL = "logistic fuser", "sum of z-scores"
RULES: Mapping[str, Rule] = {
    LOGISTIC: fit_fuser,
    "mean of probabilities": _calibrated(lambda chance: chance.mean(axis=1)),
    "max of probabilities": _calibrated(lambda chance: chance.max(axis=1)),
    EQUAL: equal_fuser,
}


def compare(scores: LabelScores, rounds: int = 200) -> FusionReport | None:
    """Every way to fuse one label's components, each fitted without the sources it is measured
    on. None: fewer than two components, or too few sources."""
    scores = scores.where(~scores.twins)
    usable = np.ones(len(scores), bool)
    for part in scores.parts.values():
        usable &= np.isfinite(part)
    scores = scores.where(usable)
    folds = source_folds(scores.sources, scores.truth) if len(scores.parts) > 1 else None
    if folds is None:
        return None
    rules = dict(RULES) | {f"{name} alone": _alone(name) for name in scores.parts}
    figures: list[SourceFigure] = []
    for method, rule in rules.items():
        figures += _figures(method, scores, _out_of_fold(rule, scores, folds), rounds)
    told = {figure.method: figure.auc for figure in figures if figure.source == "all"}
    make = fit_fuser if told[LOGISTIC] > told[EQUAL] else equal_fuser
    return FusionReport(
        label=scores.label,
        folds=int(folds.max()) + 1,
        figures=tuple(figures),
        fuser=make(scores.parts, scores.truth),
    )


def _out_of_fold(rule: Rule, scores: LabelScores, folds: NDArray[np.int64]) -> F64:
    found = np.full(len(scores), np.nan)
    for fold in np.unique(folds):
        here = folds == fold
        fuse = rule({name: part[~here] for name, part in scores.parts.items()}, scores.truth[~here])
        found[here] = fuse({name: part[here] for name, part in scores.parts.items()})
    return found


def _figures(method: str, scores: LabelScores, fused: F64, rounds: int) -> Sequence[SourceFigure]:
    negatives = fused[~scores.truth]

    def recall(yes: metrics.Scores, no: metrics.Scores) -> float:
        return metrics.recall_at(yes, no, 0.02)

    found = []
    for source in ("all", *np.unique(scores.sources[scores.truth]).tolist()):
        mine = scores.truth & ((scores.sources == source) | (source == "all"))
        found.append(
            SourceFigure(
                method=method,
                source=source,
                positives=int(mine.sum()),
                negatives=len(negatives),
                auc=metrics.auc(fused[mine], negatives),
                auc_95=metrics.bootstrap(metrics.auc, fused[mine], negatives, rounds=rounds),
                recall_2=recall(fused[mine], negatives),
                recall_2_95=metrics.bootstrap(recall, fused[mine], negatives, rounds=rounds),
            )
        )
    return found
