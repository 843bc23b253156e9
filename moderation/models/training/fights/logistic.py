"""L2 logistic regression with many more features than examples, solved where it is small.

The solution lies in the span of the examples: with standardised rows Z = U S V', it is found over
the n columns of U S, and brought back. Exact, not an approximation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moderation.models.training.heads import F32, F64, Head, sigmoid

RANK = 1e-6
"""Directions weaker than this part of the strongest are rounding."""


def fit_wide(features: F32, truth: NDArray[np.bool_], weight: F64, *, c: float) -> Head:
    """Minimise 0.5 |w|^2 + c * sum(weight * log loss) over standardised features (n, d).

    truth, weight (n,). The returned head reads raw features. Raises ValueError where all
    examples are of one kind.
    """
    if truth.all() or not truth.any():
        raise ValueError("one kind of example alone cannot be told apart")
    mean = features.mean(axis=0)
    spread = np.maximum(features.std(axis=0), 1e-6)
    rows = ((features - mean) / spread).astype(np.float32)
    values, vectors = np.linalg.eigh((rows @ rows.T).astype(np.float64))
    keep = values > RANK * values[-1]
    root = np.sqrt(values[keep])
    small = np.hstack([vectors[:, keep] * root, np.ones((len(rows), 1))])
    solution = _newton(small, truth.astype(np.float64), c * weight)
    direction = rows.T @ (vectors[:, keep] @ (solution[:-1] / root)).astype(np.float32)
    scaled = np.asarray(direction / spread, np.float32)
    return Head(scaled, float(solution[-1] - scaled.astype(np.float64) @ mean))


def _newton(rows: F64, target: F64, weight: F64, steps: int = 50) -> F64:
    penalty = np.ones(rows.shape[1])
    penalty[-1] = 0.0

    def loss(at: F64) -> float:
        logit = rows @ at
        entropy = np.logaddexp(0, logit) - target * logit
        return float((weight * entropy).sum() + 0.5 * (penalty * at * at).sum())

    found, best = np.zeros(rows.shape[1]), np.inf
    for _ in range(steps):
        now = loss(found)
        if best - now <= 1e-8 * max(1.0, abs(now)):
            break
        best = now
        guess = sigmoid(rows @ found)
        slope = rows.T @ (weight * (guess - target)) + penalty * found
        hessian = rows.T @ ((weight * guess * (1 - guess))[:, None] * rows)
        hessian[np.diag_indices_from(hessian)] += penalty + 1e-9
        step, size = np.linalg.solve(hessian, slope), 1.0
        while loss(found - size * step) > now and size > 1e-4:
            size /= 2
        found = found - size * step
    return found
