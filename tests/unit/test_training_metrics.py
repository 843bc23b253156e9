from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score

from moderation.models.training import metrics
from moderation.models.training.heads import balanced, fit_head, fit_platt, sigmoid

scores = st.lists(st.integers(0, 9).map(lambda n: n / 10), min_size=1, max_size=40)


@given(scores, scores)
def test_ranking_figures_equal_an_independent_computation(
    positives: list[float], negatives: list[float]
) -> None:
    truth = [1] * len(positives) + [0] * len(negatives)
    both = positives + negatives
    yes, no = np.asarray(positives), np.asarray(negatives)
    assert metrics.auc(yes, no) == pytest.approx(roc_auc_score(truth, both))
    assert metrics.average_precision(yes, no) == pytest.approx(average_precision_score(truth, both))


@given(scores, st.floats(0, 1))
def test_a_threshold_keeps_its_promise(negatives: list[float], rate: float) -> None:
    values = np.asarray(negatives)
    assert metrics.rate_at(values, metrics.threshold_at(values, rate)) <= rate


def test_the_threshold_is_the_lowest_that_keeps_it() -> None:
    values = np.arange(100) / 100
    limit = metrics.threshold_at(values, 0.02)
    assert metrics.rate_at(values, limit) == pytest.approx(0.02)
    assert 0.97 < limit < 0.98


def test_wilson_known_values() -> None:
    assert metrics.wilson(0, 0) == (0.0, 1.0)
    low, high = metrics.wilson(10, 100)
    assert (low, high) == (pytest.approx(0.0552, abs=1e-4), pytest.approx(0.1744, abs=1e-4))
    assert metrics.wilson(0, 300)[1] == pytest.approx(0.0126, abs=1e-4)


def test_bootstrap_surrounds_the_figure() -> None:
    rng = np.random.default_rng(1)
    yes, no = rng.normal(1, 1, 300), rng.normal(0, 1, 300)
    low, high = metrics.bootstrap(metrics.auc, yes, no)
    assert low < metrics.auc(yes, no) < high
    assert high - low < 0.1


def test_calibration_error_is_nought_for_true_probabilities_and_large_for_false_ones() -> None:
    rng = np.random.default_rng(2)
    chance = rng.uniform(0, 1, 20000)
    truth = rng.uniform(0, 1, 20000) < chance
    assert metrics.calibration_error(chance[truth], chance[~truth]) < 0.02
    assert metrics.calibration_error(1 - chance[truth], 1 - chance[~truth]) > 0.3


def test_calibration_error_at_a_stated_prevalence() -> None:
    """All 0.5: exact where half are positives, off by 0.49 where one in a hundred is."""
    half = np.full(40, 0.5)
    assert metrics.calibration_error(half, half) == pytest.approx(0)
    assert metrics.calibration_error(half, half, prevalence=0.01) == pytest.approx(0.49)
    # Three positives to one negative: the balance of the data is used where none is stated.
    assert metrics.calibration_error(half, half[:13], prevalence=None) == pytest.approx(
        40 / 53 - 0.5
    )
    assert metrics.calibration_error(half, half[:13]) == pytest.approx(0)


@given(scores, scores, st.sampled_from([None, 0.5, 0.01]))
def test_calibration_error_is_a_share_and_counts_no_order(
    positives: list[float], negatives: list[float], prevalence: float | None
) -> None:
    yes, no = np.asarray(positives), np.asarray(negatives)
    found = metrics.calibration_error(yes, no, prevalence=prevalence)
    assert 0 <= found <= 1
    assert metrics.calibration_error(yes[::-1], no[::-1], prevalence=prevalence) == pytest.approx(
        found
    )


def blobs(count: int = 400, dims: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = np.arange(count) % 4 == 0
    features = rng.normal(0, 1, (count, dims)) * np.arange(1, dims + 1)
    features[truth, 0] += 1.5
    return features.astype(np.float32), truth


def test_the_head_equals_an_independent_logistic_regression() -> None:
    features, truth = blobs()
    head = fit_head(features, truth, c=0.1)
    spread = features.std(axis=0)
    standard = (features - features.mean(axis=0)) / spread
    other = LogisticRegression(C=0.1, tol=1e-8, max_iter=1000)
    other.fit(standard, truth, sample_weight=balanced(truth))
    expected = other.decision_function(standard)
    assert np.abs(head(features) - expected).max() < 1e-3


def test_a_feature_that_never_varies_does_no_harm() -> None:
    features, truth = blobs()
    features[:, 3] = 7.0
    head = fit_head(features, truth, c=0.1)
    assert np.isfinite(head(features)).all()
    assert metrics.auc(head(features)[truth], head(features)[~truth]) > 0.8


def test_platt_recovers_a_known_scale_at_equal_prevalence() -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 2, 40000).astype(np.float32)
    truth = rng.uniform(0, 1, 40000) < sigmoid(2 * logits - 1)
    a, b = fit_platt(logits, truth, np.ones(40000))
    assert (a, b) == (pytest.approx(2, abs=0.1), pytest.approx(-1, abs=0.1))
    # Thrown-away positives change the prevalence, not the balanced calibration.
    keep = ~truth | (rng.uniform(0, 1, 40000) < 0.1)
    before, after = fit_platt(logits, truth), fit_platt(logits[keep], truth[keep])
    assert after == (pytest.approx(before[0], abs=0.15), pytest.approx(before[1], abs=0.15))


def test_platt_stays_finite_when_the_scores_separate() -> None:
    logits = np.asarray([-3, -2, 2, 3], np.float32)
    a, _ = fit_platt(logits, np.asarray([False, False, True, True]))
    assert 0 < a < 10
