"""The scores of a medium as arrays, with all that a policy asks of them, to decide on them again.

Exact: numbers keep all their digits, so that a threshold falls the same way every time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from moderation.types import LabelScore, MediaScores

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Basis:
    """What a decision rests on beside the scores.

    boxes: (views, labels) score of the surest box of a label, NaN where there is none. complete:
    as in the coverage. gap_s: of a film, the longest time without a moment that was planned;
    None: a picture. pictures: of a film, the hash of each view's picture, see `aggregate.Frame`.
    """

    boxes: Floats
    complete: bool
    gap_s: float | None = None
    pictures: tuple[str | None, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class PackedScores:
    """Scores of all views: `values` (views, labels), NaN where a label was not asked for, `times`
    (views,) seconds. basis: None where nobody can decide on them again: of live streams, of which
    only a part is kept, and of what was stored by an older version."""

    labels: tuple[str, ...]
    models: tuple[str, ...]
    values: Floats
    times: Floats
    basis: Basis | None = None

    @classmethod
    def of(
        cls, moments: Sequence[tuple[float, Mapping[str, LabelScore] | None]], models: Sequence[str]
    ) -> Self | None:
        """A row for each moment (seconds, and its scores; None: it was not seen): NaN where it was
        not seen, or where no model answers the label. None when nothing was scored."""
        labels = tuple(sorted({label for _, peaks in moments for label in peaks or {}}))
        if not labels:
            return None
        times = np.array([time_s for time_s, _ in moments], np.float64)
        return cls(labels, tuple(models), _scores(moments, labels), times)

    def peaks(self) -> dict[str, float]:
        """Each label's highest score."""
        highest = np.nanmax(self.values, axis=0)
        return {label: float(score) for label, score in zip(self.labels, highest, strict=True)}


def pack_picture(
    scores: MediaScores, models: Sequence[str], *, complete: bool
) -> PackedScores | None:
    """Every view as a row; None when nothing was scored."""
    labels = tuple(sorted({label for view in scores.scores for label in view.scores}))
    if not labels:
        return None
    shape = (len(scores.scores), len(labels))
    values, boxes = np.full(shape, np.nan), np.full(shape, np.nan)
    for row, view in enumerate(scores.scores):
        for column, label in enumerate(labels):
            values[row, column] = view.scores.get(label, np.nan)
            boxes[row, column] = _surest(d.score for d in view.detections if d.label == label)
    times = np.array([view.time_s for view in scores.views], np.float64)
    return PackedScores(labels, tuple(models), values, times, Basis(boxes, complete))


def pack_film(
    moments: Sequence[tuple[float, Mapping[str, LabelScore] | None, str | None]],
    models: Sequence[str],
    *,
    complete: bool,
    gap_s: float,
) -> PackedScores | None:
    """Every moment as a row: seconds, ascending, each once, its scores, the hash of its picture.
    None when nothing was scored."""
    packed = PackedScores.of([(time_s, peaks) for time_s, peaks, _ in moments], models)
    if packed is None:
        return None
    boxes = np.full(packed.values.shape, np.nan)
    for row, (_, peaks, _) in enumerate(moments):
        for column, label in enumerate(packed.labels):
            found = (peaks or {}).get(label)
            if found is not None and found.boxes:
                boxes[row, column] = _surest(box[4] for box in found.boxes)
    pictures = tuple(picture for _, _, picture in moments)
    basis = Basis(boxes, complete, gap_s, pictures)
    return PackedScores(packed.labels, packed.models, packed.values, packed.times, basis)


def _surest(scores: Iterable[float]) -> float:
    return max(scores, default=np.nan)


def _scores(
    moments: Sequence[tuple[float, Mapping[str, LabelScore] | None]], labels: Sequence[str]
) -> Floats:
    values = np.full((len(moments), len(labels)), np.nan)
    for row, (_, peaks) in enumerate(moments):
        for column, label in enumerate(labels):
            found = (peaks or {}).get(label)
            if found is not None:
                values[row, column] = found.score
    return values
