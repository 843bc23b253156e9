"""Trained heads: one logistic row a label over an encoder's embedding, in numpy."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from moderation.errors import WeightsError


@dataclass(frozen=True, slots=True, eq=False)
class Heads:
    """weight (labels, dim), bias (labels,), calibration (labels, 2): with
    z = weight @ embedding + bias, the probability is sigmoid(a * z + b) (Platt 1999)."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    calibration: NDArray[np.float32]

    @classmethod
    def read(cls, path: Path, *, labels: int) -> Self:
        """Raises WeightsError: not an npz of these arrays, shapes that do not fit, NaN."""
        try:
            # numpy leaves a file that it opened itself open when the archive is cut off
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                heads = cls(
                    *(arrays[name].astype(np.float32) for name in ("weight", "bias", "calibration"))
                )
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise WeightsError(f"cannot read heads {path}: {error}") from error
        shapes = (heads.weight.ndim, heads.bias.shape, heads.calibration.shape)
        if shapes != (2, (labels,), (labels, 2)) or heads.weight.shape[0] != labels:
            raise WeightsError(f"{path}: its arrays do not fit {labels} labels")
        if not all(np.isfinite(a).all() for a in (heads.weight, heads.bias, heads.calibration)):
            raise WeightsError(f"{path}: it holds a number that is not finite")
        return heads

    def probabilities(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, dim) -> (n, labels), each 0..1."""
        logits = embeddings @ self.weight.T + self.bias
        return sigmoid(logits * self.calibration[:, 0] + self.calibration[:, 1])


def sigmoid(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 / (1 + exp(-x)) without overflow at either end."""
    small = np.exp(-np.abs(values))
    return np.where(values >= 0, 1.0 / (1.0 + small), small / (1.0 + small)).astype(np.float32)
