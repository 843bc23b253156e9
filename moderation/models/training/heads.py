"""Linear heads on frozen features: L2 logistic regression and Platt calibration, in numpy.

Both are convex and solved by Newton's method to convergence, so that the same data give the
same weights on every machine, up to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """logit = features @ weight + bias, on raw features: weight (d,)."""

    weight: F32
    bias: float

    def __call__(self, features: F32) -> F32:
        """features (n, d) -> logits (n,)."""
        return np.asarray(features @ self.weight + np.float32(self.bias), np.float32)


def fit_head(
    features: F32, truth: NDArray[np.bool_], *, c: float, weight: F64 | None = None
) -> Head:
    """Minimise 0.5 |w|^2 + c * sum(weight * log loss) over standardised features.

    features (n, d); truth (n,). `weight` (n,) defaults to the one that lets positives and
    negatives count the same in all, with mean 1. The returned head reads raw features.
    """
    weight = balanced(truth) if weight is None else weight
    mean = features.mean(axis=0)
    spread = np.maximum(features.std(axis=0), 1e-6)
    rows = np.hstack([(features - mean) / spread, np.ones((len(features), 1), np.float32)])
    penalty = np.ones(rows.shape[1])
    penalty[-1] = 0.0
    solution = _newton(rows.astype(np.float32), truth.astype(np.float64), c * weight, penalty)
    scaled = solution[:-1] / spread
    return Head(scaled.astype(np.float32), float(solution[-1] - scaled @ mean))


def fit_platt(
    logits: F32, truth: NDArray[np.bool_], weight: F64 | None = None
) -> tuple[float, float]:
    """(a, b) of p = sigmoid(a * logit + b), at equal prevalence unless `weight` says else.

    Targets are Platt's, so that perfectly separated scores do not push `a` to infinity.
    """
    positive = truth.sum()
    negative = len(truth) - positive
    target = np.where(truth, (positive + 1) / (positive + 2), 1 / (negative + 2))
    rows = np.stack([logits, np.ones_like(logits)], axis=1).astype(np.float32)
    weight = balanced(truth) if weight is None else weight
    a, b = _newton(rows, target, weight, np.full(2, 1e-9))
    return float(a), float(b)


def balanced(truth: NDArray[np.bool_]) -> F64:
    """Weights with mean 1 under which both classes count the same in all."""
    share = float(truth.mean())
    return np.where(truth, 0.5 / max(share, 1e-12), 0.5 / max(1 - share, 1e-12))


def sigmoid(x: NDArray[np.floating]) -> F64:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * np.asarray(x, np.float64))))


def _newton(rows: F32, target: F64, weight: F64, penalty: F64, steps: int = 50) -> F64:
    """argmin of 0.5 * sum(penalty * w^2) + sum(weight * cross entropy(target, rows @ w))."""
    solution = np.zeros(rows.shape[1])
    loss = _loss(rows, target, weight, penalty, solution)
    for _ in range(steps):
        guess = sigmoid(rows @ solution.astype(np.float32))
        slope = rows.T @ (weight * (guess - target)).astype(np.float32) + penalty * solution
        curve = (weight * guess * (1 - guess)).astype(np.float32)[:, None]
        hessian = (rows.T @ (curve * rows)).astype(np.float64)
        hessian[np.diag_indices_from(hessian)] += penalty + 1e-9
        step = np.linalg.solve(hessian, slope)
        size = 1.0
        while (found := _loss(rows, target, weight, penalty, solution - size * step)) > loss:
            size /= 2
            if size < 1e-4:
                return solution
        solution = solution - size * step
        if loss - found <= 1e-7 * max(1.0, abs(found)):
            return solution
        loss = found
    return solution


def _loss(rows: F32, target: F64, weight: F64, penalty: F64, solution: F64) -> float:
    logit = (rows @ solution.astype(np.float32)).astype(np.float64)
    entropy = np.logaddexp(0, logit) - target * logit
    return float((weight * entropy).sum() + 0.5 * (penalty * solution * solution).sum())
