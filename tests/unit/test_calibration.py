from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from moderation.models.training.calibration import at, calibrate, fit, log_loss, logit, out_of_fold
from moderation.models.training.groups import source_folds
from moderation.models.training.heads import sigmoid
from moderation.models.training.leftout import LabelScores
from moderation.models.training.metrics import at_prevalence


def scores(shape: str = "straight", count: int = 6000, seed: int = 0) -> LabelScores:
    """Six sources; truth follows the logit by a sigmoid, or by steps that no sigmoid fits."""
    rng = np.random.default_rng(seed)
    logits = rng.uniform(-4, 4, count)
    chance = sigmoid(0.7 * logits + 0.4)
    if shape == "steps":
        chance = np.where(logits < -1, 0.02, np.where(logits < 2, 0.5, 0.93))
    return LabelScores(
        label="violence.fire",
        files=np.asarray([f"fire/{n}" for n in range(count)]),
        sources=np.asarray([f"source{n % 6}" for n in range(count)]),
        truth=rng.uniform(0, 1, count) < chance,
        logits=logits,
    )


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=4, max_size=40).filter(
        lambda rows: len({truth for _, truth in rows}) == 2
    )
)
def test_the_table_is_isotonic_regression(rows: list[tuple[int, bool]]) -> None:
    z = np.asarray([float(z) for z, _ in rows])
    truth = np.asarray([t for _, t in rows])
    table = fit("isotonic", z, truth)
    positive = truth.sum()
    target = np.where(truth, (positive + 1) / (positive + 2), 1 / (len(z) - positive + 2))
    other = IsotonicRegression().fit(z, target, sample_weight=at_prevalence(truth, 0.5))
    # Pooled blocks have the mean that isotonic regression gives them, at their middle.
    expected = {round(float(value), 9) for value in other.predict(z)}
    assert {round(float(value), 9) for value in table.table[1]} == expected
    assert (np.diff(table.table[0]) > 0).all()
    assert (np.diff(table.table[1]) > 0).all()


@pytest.mark.parametrize("method", ["platt", "isotonic"])
@settings(deadline=None)
@given(values=st.lists(st.floats(-50, 50), min_size=2, max_size=20))
def test_more_is_never_told_as_less(method: str, values: list[float]) -> None:
    known = scores(count=200)
    chance = fit(method, known.logits, known.truth)(np.sort(np.asarray(values)))  # type: ignore[arg-type]
    assert (np.diff(chance) >= 0).all()
    assert ((chance >= 0) & (chance <= 1)).all()


def test_truth_that_follows_a_sigmoid_is_platts() -> None:
    report = calibrate(scores(), rounds=40)
    assert report is not None
    assert report.chosen == "platt"
    value, (low, high) = report.errors["platt"]["50:50"]
    assert value <= high
    assert low < high < 0.06
    assert report.calibrator(np.zeros(1))[0] == pytest.approx(
        # The data's balance is taken out: told at equal prevalence.
        at(sigmoid(np.full(1, 0.4)), 1 - scores().truth.mean())[0],
        abs=0.03,
    )
    assert json.loads(json.dumps(report.to_json()))["folds_of_sources"] == 4


def test_truth_that_goes_in_steps_is_a_table() -> None:
    report = calibrate(scores("steps"), rounds=40)
    assert report is not None
    assert report.chosen == "isotonic"
    errors = {method: found["50:50"][0] for method, found in report.errors.items()}
    assert errors["isotonic"] < 0.03 < errors["platt"]


def test_what_is_measured_was_not_fitted() -> None:
    """A source whose logits mean the opposite is told wrongly, however well it could be fitted."""
    known = scores(count=600)
    odd = known.sources == "source0"
    truth = np.where(odd, known.logits < 0, known.logits > 0)
    folds = (~odd).astype(np.int64)
    assert log_loss(out_of_fold("isotonic", known.logits, truth, folds)[odd], truth[odd]) > 2


def test_one_source_cannot_be_left_out() -> None:
    known = scores(count=50)
    alone = LabelScores("x.y", known.files, np.full(50, "one"), known.truth, known.logits)
    assert calibrate(alone) is None


def test_probabilities_at_another_prevalence() -> None:
    assert at(np.asarray([0.5, 0.9]), 0.01) == pytest.approx([0.01, 1 / 12])
    assert at(np.asarray([0.0, 0.3, 1.0]), 0.5) == pytest.approx([0.0, 0.3, 1.0])
    assert (logit(0.0), logit(0.5), logit(1.0)) == (-np.inf, 0.0, np.inf)


names = st.sampled_from("abcdef")


@settings(deadline=None)
@given(st.lists(st.tuples(names, st.booleans()), max_size=60))
def test_folds_hold_whole_sources_of_both_kinds(rows: list[tuple[str, bool]]) -> None:
    sources = np.asarray([name for name, _ in rows], np.str_)
    truth = np.asarray([told for _, told in rows], bool)
    folds = source_folds(sources, truth)
    positive, negative = set(sources[truth].tolist()), set(sources[~truth].tolist())
    both = len(positive & negative)
    one_kind = min(len(positive), len(negative)) - both
    if folds is None:
        assert both + one_kind < 2, "two of both kinds, or one of each kind beside it, are enough"
        return
    assert folds.max() < 4
    for fold in range(int(folds.max()) + 1):
        assert set(truth[folds == fold].tolist()) == {True, False}
    for name in positive | negative:
        assert len(set(folds[sources == name].tolist())) == 1
