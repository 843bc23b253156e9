from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize

from moderation.models.training.fusion import C, compare, fit_fuser
from moderation.models.training.heads import balanced, sigmoid
from moderation.models.training.leftout import LabelScores

F64 = NDArray[np.float64]


def example(
    weights: tuple[float, ...], count: int = 3000, seed: int = 0
) -> tuple[dict[str, F64], NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    rows = rng.normal(0, 2, (count, len(weights)))
    truth = rng.uniform(0, 1, count) < sigmoid(rows @ np.asarray(weights))
    return {f"part{n}": rows[:, n] for n in range(len(weights))}, truth


def labelled(parts: dict[str, F64], truth: NDArray[np.bool_]) -> LabelScores:
    count = len(truth)
    return LabelScores(
        label="violence.weapon",
        files=np.asarray([f"weapon/{n}" for n in range(count)]),
        sources=np.asarray([f"source{n % 5}" for n in range(count)]),
        truth=truth,
        logits=next(iter(parts.values())),
        parts=parts,
    )


def test_the_weights_are_those_the_truth_follows() -> None:
    parts, truth = example((1.0, 0.4))
    fuser = fit_fuser(parts, truth, c=10)
    assert fuser.names == ("part0", "part1")
    assert fuser.weights == (pytest.approx(1.0, abs=0.12), pytest.approx(0.4, abs=0.08))
    assert fuser(parts)[:5] == pytest.approx(
        fuser.weights[0] * parts["part0"][:5] + fuser.weights[1] * parts["part1"][:5] + fuser.bias
    )


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=4), st.integers(0, 9))
def test_weights_are_the_best_that_are_not_negative(weights: list[float], seed: int) -> None:
    parts, truth = example(tuple(weights), 400, seed)
    fuser = fit_fuser(parts, truth)
    assert min(fuser.weights) >= 0
    rows = np.stack([parts[name] for name in fuser.names], axis=1)
    spread, weight = rows.std(axis=0), balanced(truth)

    def loss(solution: F64) -> float:
        fused = rows @ solution[:-1] + solution[-1]
        entropy = np.logaddexp(0, fused) - truth * fused
        return float(C * (weight * entropy).sum() + 0.5 * ((solution[:-1] * spread) ** 2).sum())

    bounds = [(0, None)] * len(weights) + [(None, None)]
    other = minimize(loss, np.zeros(len(weights) + 1), bounds=bounds, method="L-BFGS-B")
    assert loss(np.asarray([*fuser.weights, fuser.bias])) <= other.fun + 1e-3 * abs(other.fun)


def test_the_fuser_beats_the_simple_ways_where_one_part_is_noise() -> None:
    parts, truth = example((1.2, 0.0, 0.3))
    report = compare(labelled(parts, truth), rounds=20)
    assert report is not None
    pooled = {f.method: f for f in report.figures if f.source == "all"}
    best = pooled["logistic fuser"]
    for method in ("mean of probabilities", "max of probabilities", "sum of z-scores"):
        assert best.auc > pooled[method].auc
    assert best.auc_95[0] < best.auc < best.auc_95[1]
    assert best.recall_2_95[0] <= best.recall_2 <= best.recall_2_95[1]
    assert "part1 alone" in pooled
    assert {f.source for f in report.figures} == {"all", *(f"source{n}" for n in range(5))}
    assert json.loads(json.dumps(report.to_json()))["fuser"]["weights"]["part0"] > 0.5


def test_no_row_is_fused_by_what_saw_its_source() -> None:
    """In one source a part gives the truth away; only that source could teach it."""
    parts, truth = example((1.0, 0.0))
    scores = labelled(parts, truth)
    own = scores.sources == "source0"
    leaky = dict(parts) | {"part1": np.where(own, np.where(truth, 9.0, -9.0), parts["part1"])}
    told = compare(labelled(leaky, truth), rounds=5)
    plain = compare(scores, rounds=5)
    assert told is not None
    assert plain is not None
    fused = {
        name: {f.source: f.auc for f in report.figures if f.method == "logistic fuser"}["source0"]
        for name, report in (("leaky", told), ("plain", plain))
    }
    # Its own rows come from a fuser that learnt from others that the part says nothing: what it
    # gives away is worth its small weight of chance, not 1.0.
    assert fused["leaky"] < 0.97
    assert fused["leaky"] == pytest.approx(fused["plain"], abs=0.1)


def test_what_cannot_be_fused() -> None:
    parts, truth = example((1.0,))
    assert compare(labelled(parts, truth)) is None, "one part is no choice"
    with pytest.raises(ValueError, match="components"):
        fit_fuser({}, truth)
    wrong = {"part0": -parts["part0"]}
    assert fit_fuser(wrong, truth).weights == (0.0,)
