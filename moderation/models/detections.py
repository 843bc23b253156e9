"""What a detector answers -> boxes of evidence. Pure numpy.

The network has done the first half: a cell's peak is 0 where a neighbour's is higher. Here the
cells above a threshold become boxes, of which the strongest stay where several mark one thing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from moderation.errors import InferenceError
from moderation.models.backends.base import Outputs
from moderation.models.spec import DetectedClass, DetectorSpec
from moderation.types import Detection

Floats = NDArray[np.float32]
Box = tuple[float, float, float, float]

CANDIDATES = 48
"""Cells of a class that are looked at, the strongest: a crowd of peaks is noise."""
DIGITS = 4
"""Of coordinates and scores: a box is not known to a pixel of a large picture."""


def detections(
    spec: DetectorSpec, outputs: Outputs, count: int, model: str
) -> list[tuple[Detection, ...]]:
    """The boxes of each of `count` views, strongest first; fractions of the view.

    Boxes are cut at the view's borders; what has no area is none. model: whose they are, for
    the error. Raises InferenceError: outputs that are absent, of another shape, or not finite.
    """
    peaks, boxes = _checked(spec, outputs, count, model)
    rows = np.flatnonzero(peaks.max(axis=(1, 2), initial=0.0) >= spec.least)
    found: list[tuple[Detection, ...]] = [()] * count
    for row in rows.tolist():
        found[row] = _of_view(spec, peaks[row], boxes[row])
    return found


def sublabels(found: Sequence[Detection]) -> Mapping[str, str]:
    """label -> the class of its strongest box."""
    strongest: dict[str, Detection] = {}
    for one in found:
        best = strongest.get(one.label)
        if one.sublabel is not None and (best is None or one.score > best.score):
            strongest[one.label] = one
    return {label: one.sublabel for label, one in strongest.items() if one.sublabel is not None}


def suppressed(found: Iterable[Detection], iou: float, most: int) -> list[Detection]:
    """Greedy suppression over boxes of one label, strongest first: at most so many that stay.

    One goes where it overlaps an earlier one that stays by more than `iou`.
    """
    kept: list[Detection] = []
    for one in found:
        if all(overlap(one.box, other.box) <= iou for other in kept):
            kept.append(one)
            if len(kept) == most:
                break
    return kept


def overlap(one: Box, other: Box) -> float:
    """Intersection over union, 0..1."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (_area(one) + _area(other) - shared)


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _checked(spec: DetectorSpec, outputs: Outputs, count: int, model: str) -> tuple[Floats, Floats]:
    for name in (spec.peaks, spec.boxes):
        if name not in outputs:
            raise InferenceError(f"{model} has no output {name!r}")
    peaks, boxes = outputs[spec.peaks], outputs[spec.boxes]
    columns = 1 + max(one.index for one in spec.classes)
    fits = peaks.ndim == 3 and boxes.shape == (count, peaks.shape[1], 4)
    if not fits or len(peaks) != count or peaks.shape[2] < columns:
        raise InferenceError(f"{model}: peaks {peaks.shape} and boxes {boxes.shape} do not fit")
    if not (np.isfinite(peaks).all() and np.isfinite(boxes).all()):
        raise InferenceError(f"{model} answered a number that is not finite")
    return peaks, boxes


def _of_view(spec: DetectorSpec, peaks: Floats, boxes: Floats) -> tuple[Detection, ...]:
    """peaks: (cells, classes). boxes: (cells, 4)."""
    found: dict[str, list[Detection]] = {one.label: [] for one in spec.classes}
    for one in spec.classes:
        found[one.label] += _of_class(spec.least, one, peaks[:, one.index], boxes)
    kept: list[Detection] = []
    for own in found.values():
        # Few boxes, each against the few that stay: faster than a matrix of all overlaps. The
        # sort is stable: of equal scores the earlier class and cell.
        own.sort(key=_strength)
        kept += suppressed(own, spec.iou, spec.max_boxes)
    return tuple(sorted(kept, key=_strength))


def _of_class(least: float, one: DetectedClass, peaks: Floats, boxes: Floats) -> list[Detection]:
    cells = np.flatnonzero(peaks >= least)
    if len(cells) > CANDIDATES:
        cells = np.sort(cells[np.argsort(-peaks[cells], kind="stable")[:CANDIDATES]])
    told = []
    for score, corners in zip(peaks[cells].tolist(), boxes[cells].tolist(), strict=True):
        x1, y1, x2, y2 = (round(min(1.0, max(0.0, side)), DIGITS) for side in corners)
        if x1 < x2 and y1 < y2:
            strength = round(min(1.0, score), DIGITS)
            told.append(Detection(one.label, one.sublabel, (x1, y1, x2, y2), strength))
    return told


def _strength(one: Detection) -> float:
    return -one.score
