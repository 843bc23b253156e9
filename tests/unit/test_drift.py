"""Distributions of scores against each other."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.drift import (
    BARS,
    LEAST,
    by_chance,
    compare,
    histogram,
    share_above,
    stability_index,
    tenths,
)

scores = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=300).map(np.array)
counts = st.lists(st.integers(0, 1000), min_size=10, max_size=10).map(np.array)


@given(scores)
def test_a_histogram_has_all_scores(values: np.ndarray) -> None:
    found = histogram(values)
    assert found.count == len(values)
    assert len(found.shares) == BARS
    assert sum(found.shares) == pytest.approx(1)


def test_a_histogram_of_nothing_is_flat() -> None:
    assert histogram(np.array([])).shares == (0.0,) * BARS


@given(scores)
def test_tenths_are_in_order_and_none_of_their_bins_is_empty(values: np.ndarray) -> None:
    edges = tenths(values)
    assert (np.diff(edges) > 0).all()
    bins = np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1)
    assert bins.sum() == len(values)
    for edge in edges[1:-1]:
        assert ((values <= edge).sum()) > 0


@given(counts, counts)
def test_the_index_is_no_less_than_nought_and_the_same_from_both_sides(
    one: np.ndarray, other: np.ndarray
) -> None:
    index = stability_index(one, other)
    assert index >= 0
    assert index == pytest.approx(stability_index(other, one))
    assert stability_index(one, one) == 0


def test_a_known_index() -> None:
    before, after = np.array([50_000, 50_000]), np.array([60_000, 40_000])
    told = 0.1 * math.log(0.6 / 0.5) - 0.1 * math.log(0.4 / 0.5)
    assert stability_index(before, after) == pytest.approx(told, rel=1e-4)


def test_chance_is_a_quantile_of_chi_square() -> None:
    # Of nine degrees of freedom: 16.919.
    assert by_chance(10, 1000, 1000) == pytest.approx(16.919 / 500, rel=2e-3)


def test_nothing_changes_19_times_of_20() -> None:
    rng = np.random.default_rng(3)
    draws = [(rng.beta(0.5, 4, 800), rng.beta(0.5, 4, 400)) for _ in range(200)]
    found = [compare(before, after) for before, after in draws]
    within = np.mean([one.index <= one.chance for one in found])  # type: ignore[operator]
    assert within >= 0.9
    assert np.mean([one.reading == "stable" for one in found]) >= 0.98


@pytest.mark.parametrize(
    ("before", "after", "reading"),
    [
        (lambda rng: rng.beta(2, 5, 2000), lambda rng: rng.beta(2, 5, 2000), "stable"),
        (lambda rng: rng.beta(2, 5, 2000), lambda rng: rng.beta(2, 3.6, 2000), "shifted"),
        (lambda rng: rng.beta(2, 5, 2000), lambda rng: rng.beta(5, 2, 2000), "moved"),
        # One score alone, and then a little more, or a little less.
        (lambda rng: np.full(500, 0.5), lambda rng: np.full(500, 0.5), "stable"),
        (lambda rng: np.full(500, 0.5), lambda rng: np.full(500, 0.51), "moved"),
        (lambda rng: np.full(500, 0.5), lambda rng: np.full(500, 0.49), "moved"),
        (lambda rng: np.full(LEAST - 1, 0.5), lambda rng: np.full(500, 0.49), "few"),
        (lambda rng: np.full(500, 0.5), lambda rng: np.array([]), "few"),
    ],
)
def test_readings(before: object, after: object, reading: str) -> None:
    rng = np.random.default_rng(1)
    assert compare(before(rng), after(rng)).reading == reading  # type: ignore[operator]


def test_a_share_reaches_its_limit() -> None:
    assert share_above(np.array([0.1, 0.5, 0.9, 0.5]), 0.5) == 0.75
    assert share_above(np.array([]), 0.5) == 0
