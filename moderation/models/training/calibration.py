"""Logits to probabilities: Platt's sigmoid or a monotone table, the better one on sources that
neither was fitted on.

Probabilities are told at **equal prevalence**. At another one, add log(p / (1 - p)) to their logit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from moderation.models.training.groups import source_folds
from moderation.models.training.heads import fit_platt, sigmoid
from moderation.models.training.leftout import LabelScores
from moderation.models.training.metrics import Interval, at_prevalence, bootstrap, calibration_error

F64 = NDArray[np.float64]
Flags = NDArray[np.bool_]
Method = Literal["platt", "isotonic"]
METHODS: tuple[Method, ...] = ("platt", "isotonic")
PREVALENCES: tuple[tuple[str, float | None], ...] = (
    ("50:50", 0.5),
    ("as in the data", None),
    ("1 %", 0.01),
)


@dataclass(frozen=True, slots=True, eq=False)
class Calibrator:
    """Logits to probabilities at equal prevalence, never falling.

    `table`: (2,), a and b of sigmoid(a z + b); or (2, k), k rising logits over their rising
    probabilities, straight lines between, flat outside.
    """

    table: F64

    @property
    def method(self) -> Method:
        return "platt" if self.table.ndim == 1 else "isotonic"

    def __call__(self, logits: NDArray[np.floating]) -> F64:
        """logits (n,) -> probabilities (n,), 0..1."""
        z = np.asarray(logits, np.float64)
        if self.table.ndim == 1:
            return sigmoid(self.table[0] * z + self.table[1])
        return np.asarray(np.interp(z, self.table[0], self.table[1]))


@dataclass(frozen=True, slots=True, eq=False)
class CalibrationReport:
    """Both ways, each fitted without the sources it is measured on, and the better one fitted on
    all. `errors[method][prevalence]` is the ECE with its 95 % interval; `loss` the log loss in
    nats at equal prevalence, by which the better one is told."""

    label: str
    folds: int
    loss: dict[Method, float]
    errors: dict[Method, dict[str, tuple[float, Interval]]]
    chosen: Method
    calibrator: Calibrator

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "label": self.label,
            "folds_of_sources": self.folds,
            "chosen": self.chosen,
            "table": self.calibrator.table.tolist(),
            "log_loss": self.loss,
            "ece": {
                method: {name: [value, *interval] for name, (value, interval) in found.items()}
                for method, found in self.errors.items()
            },
        }


def fit(method: Method, logits: F64, truth: Flags) -> Calibrator:
    """Fit at equal prevalence. logits, truth: (n,), with both kinds."""
    if method == "platt":
        return Calibrator(np.asarray(fit_platt(logits.astype(np.float32), truth), np.float64))
    return Calibrator(_monotone(logits, truth))


def out_of_fold(method: Method, logits: F64, truth: Flags, folds: NDArray[np.int64]) -> F64:
    """Probabilities (n,), each by a calibrator that saw no row of its fold."""
    found = np.full(len(logits), np.nan)
    for fold in np.unique(folds):
        here = folds == fold
        found[here] = fit(method, logits[~here], truth[~here])(logits[here])
    return found


def calibrate(
    scores: LabelScores, rounds: int = 200, folds: NDArray[np.int64] | None = None
) -> CalibrationReport | None:
    """The better calibration of one label. folds: (n,) of the rows that are no twins; by default
    whole sources. None: too few sources to measure one."""
    scores = scores.where(~scores.twins)
    if folds is None:
        folds = source_folds(scores.sources, scores.truth)
    if folds is None:
        return None
    truth = scores.truth
    loss: dict[Method, float] = {}
    errors: dict[Method, dict[str, tuple[float, Interval]]] = {}
    for method in METHODS:
        chance = out_of_fold(method, scores.logits, truth, folds)
        loss[method] = log_loss(chance, truth)
        errors[method] = {
            name: _error(chance[truth], chance[~truth], prevalence, rounds)
            for name, prevalence in PREVALENCES
        }
    chosen: Method = "isotonic" if loss["isotonic"] < loss["platt"] else "platt"
    return CalibrationReport(
        label=scores.label,
        folds=int(folds.max()) + 1,
        loss=loss,
        errors=errors,
        chosen=chosen,
        calibrator=fit(chosen, scores.logits, truth),
    )


def log_loss(chance: F64, truth: Flags, prevalence: float | None = 0.5) -> float:
    """Mean negative log likelihood in nats of probabilities (n,) at a prevalence."""
    safe = np.clip(np.where(truth, chance, 1 - chance), 1e-9, 1)
    return float(-(at_prevalence(truth, prevalence) * np.log(safe)).sum())


def at(chance: F64, prevalence: float) -> F64:
    """Probabilities told at equal prevalence -> the same at another one."""
    odds = chance / np.maximum(1 - chance, 1e-15) * prevalence / (1 - prevalence)
    return np.asarray(odds / (1 + odds))


def _error(
    positives: F64, negatives: F64, prevalence: float | None, rounds: int
) -> tuple[float, Interval]:
    """ECE at a prevalence, of probabilities moved to that prevalence."""
    told = len(positives) / (len(positives) + len(negatives)) if prevalence is None else prevalence

    def figure(yes: NDArray[np.floating], no: NDArray[np.floating]) -> float:
        return calibration_error(yes, no, prevalence=told)

    moved = (at(positives, told), at(negatives, told))
    return figure(*moved), bootstrap(figure, *moved, rounds=rounds)


def _monotone(logits: F64, truth: Flags) -> F64:
    """Isotonic regression (pool adjacent violators) at equal prevalence, as a table (2, k).

    Targets are Platt's, so that no score is told to be certain. Knots are the means of the
    pooled blocks: between them the table rises, so that ranks are kept.
    """
    positive = int(truth.sum())
    target = np.where(truth, (positive + 1) / (positive + 2), 1 / (len(truth) - positive + 2))
    weight = at_prevalence(truth, 0.5)
    values, place = np.unique(logits, return_inverse=True)
    mass = np.bincount(place, weight)
    mean = np.bincount(place, weight * target) / mass
    blocks: list[tuple[float, float, float]] = []  # mass, mean of the targets, mean of the logits
    for block in zip(mass.tolist(), mean.tolist(), values.tolist(), strict=True):
        blocks.append(block)
        while len(blocks) > 1 and blocks[-2][1] >= blocks[-1][1]:
            (m, y, x), (n, v, u) = blocks[-2:]
            both = m + n
            blocks[-2:] = [(both, (m * y + n * v) / both, (m * x + n * u) / both)]
    return np.asarray([[x for _, _, x in blocks], [y for _, y, _ in blocks]])


def logit(chance: float) -> float:
    """log(p / (1 - p)); infinite at either end."""
    if chance <= 0:
        return -math.inf
    return math.inf if chance >= 1 else math.log(chance / (1 - chance))
