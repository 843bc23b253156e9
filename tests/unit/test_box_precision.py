from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from moderation.models.training import metrics

Box = tuple[float, float, float, float]
F64 = NDArray[np.float64]

corner = st.integers(0, 6).map(float)
box = st.tuples(corner, corner, st.integers(1, 4), st.integers(1, 4)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)
picture = st.tuples(
    st.lists(st.tuples(box, st.integers(0, 9).map(lambda n: n / 10)), max_size=5),
    st.lists(box, max_size=4),
)


def rows(boxes: list[Box]) -> F64:
    return np.asarray(boxes, np.float64).reshape(-1, 4)


def precision(pictures: list[tuple[list[tuple[Box, float]], list[Box]]], iou: float = 0.5) -> float:
    return metrics.average_precision_boxes(
        [(rows([b for b, _ in seen]), np.asarray([s for _, s in seen])) for seen, _ in pictures],
        [rows(true) for _, true in pictures],
        iou,
    )


@given(st.lists(box, max_size=4), st.lists(box, max_size=4))
def test_overlap_is_symmetric_and_counts_cells(one: list[Box], other: list[Box]) -> None:
    found = metrics.overlap(rows(one), rows(other))
    assert found.shape == (len(one), len(other))
    np.testing.assert_allclose(found, metrics.overlap(rows(other), rows(one)).T)
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            cells = [
                {(x, y) for x in range(int(c[0]), int(c[2])) for y in range(int(c[1]), int(c[3]))}
                for c in (a, b)
            ]
            assert found[i, j] == pytest.approx(len(cells[0] & cells[1]) / len(cells[0] | cells[1]))


@given(st.lists(picture, max_size=4))
def test_it_is_a_share_or_nothing(
    pictures: list[tuple[list[tuple[Box, float]], list[Box]]],
) -> None:
    found = precision(pictures)
    if any(true for _, true in pictures):
        assert 0 <= found <= 1
    else:
        assert math.isnan(found)


@given(st.lists(picture, min_size=1, max_size=4), st.permutations(range(4)))
def test_only_the_order_of_scores_matters(
    pictures: list[tuple[list[tuple[Box, float]], list[Box]]], order: list[int]
) -> None:
    squared = [([(b, s * s) for b, s in seen], true) for seen, true in pictures]
    shuffled = [pictures[n] for n in order if n < len(pictures)]
    for other in (squared, shuffled):
        assert precision(other) == pytest.approx(precision(pictures), nan_ok=True)


@given(st.lists(st.lists(box, max_size=3, unique=True), min_size=1, max_size=4))
def test_perfect_boxes_are_perfect(truths: list[list[Box]]) -> None:
    pictures = [([(b, 0.9) for b in true], true) for true in truths]
    assert precision(pictures, 1.0) == pytest.approx(1.0 if any(truths) else math.nan, nan_ok=True)


@given(st.lists(picture, min_size=1, max_size=3))
def test_a_false_box_of_the_lowest_score_changes_nothing_one_of_the_highest_never_helps(
    pictures: list[tuple[list[tuple[Box, float]], list[Box]]],
) -> None:
    before = precision(pictures)
    far = (100.0, 100.0, 101.0, 101.0)
    low = [*pictures, ([(far, -1.0)], [])]
    high = [*pictures, ([(far, 2.0)], [])]
    assert precision(low) == pytest.approx(before, nan_ok=True)
    assert math.isnan(before) or precision(high) <= before + 1e-12


def test_a_known_value() -> None:
    """Three true boxes; by score: hit, false, hit again on the first (false), hit."""
    a, b, c = (0.0, 0.0, 2.0, 2.0), (4.0, 0.0, 6.0, 2.0), (0.0, 4.0, 2.0, 6.0)
    far = (8.0, 8.0, 9.0, 9.0)
    found = precision([([(a, 0.9), (far, 0.8), (a, 0.7), (b, 0.6)], [a, b]), ([], [c])])
    assert found == pytest.approx((1.0 + 2 / 4) / 3)


def test_pictures_that_nobody_boxed_are_left_out() -> None:
    a = rows([(0, 0, 2, 2)])
    seen = [(a, np.asarray([0.5])), (a, np.asarray([0.9]))]
    assert metrics.average_precision_boxes(seen, [a, None]) == 1.0
    assert metrics.average_precision_boxes(seen, [a, rows([])]) == 0.5


def test_the_mean_is_of_classes_that_exist() -> None:
    a = rows([(0, 0, 2, 2)])
    good, bad = [(a, np.asarray([0.5]))], [(a + 10, np.asarray([0.5]))]
    mean, each = metrics.mean_average_precision(
        {"pistol": (good, [a]), "knife": (bad, [a]), "long_gun": (good, [rows([])])}
    )
    assert mean == 0.5
    assert (each["pistol"], each["knife"]) == (1.0, 0.0)
    assert math.isnan(each["long_gun"])
    assert math.isnan(metrics.mean_average_precision({"x": (good, [None])})[0])
