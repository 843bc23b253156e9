"""Peaks and boxes of a detector -> what people see."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.errors import InferenceError
from moderation.models.detections import (
    CANDIDATES,
    DIGITS,
    detections,
    overlap,
    sublabels,
    suppressed,
)
from moderation.models.spec import DetectorSpec
from moderation.types import Detection

GUN = "violence.weapon"
SMOKE = "smoking.smoking"
CLASSES = [
    {"label": SMOKE, "sublabel": "cigarette", "index": 0},
    {"label": GUN, "sublabel": "pistol", "index": 1},
    {"label": GUN, "sublabel": "knife", "index": 2},
]


def detector(**changes: object) -> DetectorSpec:
    told = {"peaks": "p", "boxes": "b", "least": 0.3, "iou": 0.5, "classes": CLASSES}
    return DetectorSpec.model_validate(told | changes)


def outputs(*cells: tuple[int, float, tuple[float, ...]], views: int = 1) -> dict[str, np.ndarray]:
    """One cell for each (class, peak, box), the same in every view."""
    peaks = np.zeros((views, len(cells) + 1, 3), np.float32)
    boxes = np.zeros((views, len(cells) + 1, 4), np.float32)
    for at, (kind, peak, box) in enumerate(cells):
        peaks[:, at, kind] = peak
        boxes[:, at] = box
    return {"p": peaks, "b": boxes}


def of_one(spec: DetectorSpec, *cells: tuple[int, float, tuple[float, ...]]) -> list[Detection]:
    (found,) = detections(spec, outputs(*cells), 1, "m@1")
    return list(found)


LEFT, RIGHT = (0.0, 0.0, 0.25, 0.5), (0.5, 0.0, 0.75, 0.5)


def test_cells_above_the_threshold_are_boxes_strongest_first() -> None:
    told = of_one(detector(), (1, 0.5, LEFT), (0, 0.75, RIGHT), (2, 0.25, RIGHT))
    assert told == [
        Detection(SMOKE, "cigarette", RIGHT, 0.75),
        Detection(GUN, "pistol", LEFT, 0.5),
    ]


def test_of_boxes_of_a_label_that_mark_one_thing_the_strongest_stays() -> None:
    near = (0.0, 0.0, 0.25, 0.4)
    told = of_one(detector(), (1, 0.5, LEFT), (2, 0.625, near), (1, 0.375, RIGHT), (0, 0.5, LEFT))
    assert [(one.sublabel, one.score) for one in told] == [
        ("knife", 0.625),
        ("cigarette", 0.5),
        ("pistol", 0.375),
    ]


def test_no_more_than_the_strongest_of_each_label() -> None:
    cells = [(1, 0.4 + 0.05 * i, (0.1 * i, 0, 0.1 * i + 0.05, 1)) for i in range(8)]
    told = of_one(detector(max_boxes=3), *cells, (0, 0.35, RIGHT))
    assert [one.score for one in told] == pytest.approx([0.75, 0.7, 0.65, 0.35])


def test_boxes_are_cut_at_the_border_and_need_an_area() -> None:
    told = of_one(
        detector(),
        (1, 0.5, (-1, -1, 0.5, 2)),
        (1, 0.75, (0.7, 0.7, 0.6, 0.8)),
        (1, 0.875, (1.5, 0, 2, 1)),
        (1, 0.625, (0.5, 0.5, 0.50001, 1)),
    )
    assert [one.box for one in told] == [(0, 0, 0.5, 1)]


def test_views_have_their_own_boxes() -> None:
    told = outputs((1, 0.5, LEFT), views=3)
    told["p"][1] = 0
    assert [len(found) for found in detections(detector(), told, 3, "m@1")] == [1, 0, 1]


def test_a_class_that_is_not_named_is_not_told() -> None:
    assert of_one(detector(classes=CLASSES[:1]), (1, 0.9, LEFT)) == []


def test_the_sublabel_is_that_of_the_strongest_box() -> None:
    found = [
        Detection(GUN, "pistol", LEFT, 0.5),
        Detection(GUN, "knife", LEFT, 0.6),
        Detection(SMOKE, None, LEFT, 0.9),
    ]
    assert sublabels(found) == {GUN: "knife"}


@pytest.mark.parametrize(
    ("name", "shape"),
    [("p", (1, 5, 2)), ("p", (2, 5, 3)), ("p", (1, 5)), ("b", (1, 4, 4)), ("b", (1, 5, 5))],
)
def test_outputs_of_another_shape_are_an_error(name: str, shape: tuple[int, ...]) -> None:
    told = outputs(*[(0, 0.0, LEFT)] * 4) | {name: np.zeros(shape, np.float32)}
    with pytest.raises(InferenceError, match=r"m@1: peaks .* do not fit"):
        detections(detector(), told, 1, "m@1")


@pytest.mark.parametrize("name", ["p", "b"])
def test_outputs_that_are_absent_or_not_finite_are_an_error(name: str) -> None:
    told = outputs((0, 0.5, LEFT))
    told[name][0, 0, 0] = np.nan
    with pytest.raises(InferenceError, match="not finite"):
        detections(detector(), told, 1, "m@1")
    del told[name]
    with pytest.raises(InferenceError, match=f"no output '{name}'"):
        detections(detector(), told, 1, "m@1")


@st.composite
def answers(draw: st.DrawFn) -> dict[str, np.ndarray]:
    views, cells = draw(st.integers(1, 3)), draw(st.integers(1, 90))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    share = draw(st.sampled_from([0.02, 0.3, 1.0]))
    peaks = random.random((views, cells, 3)) * (random.random((views, cells, 3)) < share)
    middle, half = random.random((views, cells, 2)) * 1.4 - 0.2, random.random((views, cells, 2))
    half = half * draw(st.sampled_from([0.02, 0.3])) - 0.005
    boxes = np.concatenate([middle - half, middle + half], axis=2)
    return {"p": peaks.astype(np.float32), "b": boxes.astype(np.float32)}


@given(answers(), st.floats(0.01, 1), st.floats(0, 1), st.integers(1, 64))
def test_boxes_lie_within_the_view_reach_the_threshold_and_do_not_overlap(
    told: dict[str, np.ndarray], least: float, iou: float, most: int
) -> None:
    spec = detector(least=least, iou=iou, max_boxes=most)
    for row, found in enumerate(detections(spec, told, len(told["p"]), "m@1")):
        assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
        for label in (GUN, SMOKE):
            own = [one for one in found if one.label == label]
            assert len(own) <= most
            boxes = np.array([one.box for one in own]).reshape(-1, 4)
            assert ((boxes >= 0) & (boxes <= 1)).all()
            assert (boxes[:, 2:] > boxes[:, :2]).all()
            for one, other in combinations(own, 2):
                assert overlap(one.box, other.box) <= iou
        for one in found:
            assert one.score >= round(least, DIGITS) - 10**-DIGITS
            column = next(x.index for x in spec.classes if x.sublabel == one.sublabel)
            cut = np.round(np.clip(told["b"][row].astype(np.float64), 0, 1), DIGITS)
            cells = (cut == one.box).all(axis=1)
            assert np.abs(told["p"][row, cells, column] - one.score).min() < 10**-DIGITS


@given(answers(), st.floats(0, 1))
def test_the_strongest_thing_of_each_label_is_always_told(
    told: dict[str, np.ndarray], iou: float
) -> None:
    spec = detector(least=0.2, iou=iou, max_boxes=1)
    for row, found in enumerate(detections(spec, told, len(told["p"]), "m@1")):
        cut = np.round(np.clip(told["b"][row].astype(np.float64), 0, 1), DIGITS)
        solid = (cut[:, 2:] > cut[:, :2]).all(axis=1)
        for label, columns in ((SMOKE, [0]), (GUN, [1, 2])):
            peaks = told["p"][row][solid][:, columns]
            own = [one.score for one in found if one.label == label]
            # A crowd of cells without an area may hide others: the strongest cells count.
            if len(solid) <= CANDIDATES:
                best = max(peaks.max(initial=0.0), 0.0)
                assert own == ([pytest.approx(best, abs=10**-DIGITS)] if best >= 0.2 else [])


@given(answers(), st.floats(0, 1))
def test_what_goes_overlaps_something_stronger_that_stays(
    told: dict[str, np.ndarray], iou: float
) -> None:
    (found, *_) = detections(detector(iou=1.0, max_boxes=64), told, len(told["p"]), "m@1")
    guns = [one for one in found if one.label == GUN]
    kept = suppressed(guns, iou, len(guns))
    for at, one in enumerate(guns):
        earlier = [other for other in guns[:at] if other in kept]
        goes = any(overlap(one.box, other.box) > iou for other in earlier)
        assert (one in kept) is not goes


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ((0.0, 0.0, 0.5, 0.5), 1.0),
        ((0.25, 0.0, 0.75, 0.5), 1 / 3),
        ((0.0, 0.0, 0.25, 0.25), 0.25),
        ((0.5, 0.0, 1.0, 0.5), 0.0),
        ((0.75, 0.75, 1.0, 1.0), 0.0),
    ],
)
def test_overlap_is_intersection_over_union(
    other: tuple[float, float, float, float], expected: float
) -> None:
    box = (0.0, 0.0, 0.5, 0.5)
    assert overlap(box, other) == overlap(other, box) == pytest.approx(expected)
