from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from moderation.models.training.thresholds import (
    PRESETS,
    Costs,
    Limits,
    Ordinary,
    Positives,
    choose,
    expected_cost,
    hits,
    minimise,
    reached,
    source_weights,
    told,
)

F64 = NDArray[np.float64]
A, B = "violence.weapon", "violence.fire"
unit = st.integers(0, 20).map(lambda n: n / 20)


def positives(label: str, scores: F64 | list[float], source: str = "s") -> Positives:
    values = np.asarray(scores, np.float64)
    return Positives(label, values, np.full(len(values), source))


def ordinary(**scores: F64 | list[float]) -> Ordinary:
    labels = {"a": A, "b": B}
    values = {labels[name]: np.asarray(of, np.float64) for name, of in scores.items()}
    count = len(next(iter(values.values())))
    names = np.asarray([f"safe/{n}" for n in range(count)])
    return Ordinary(names, np.asarray([f"s{n % 3}" for n in range(count)]), values, {})


def bells(count: int, middle: float, seed: int) -> F64:
    z = np.random.default_rng(seed).normal(middle, 1.5, count)
    return np.asarray(1 / (1 + np.exp(-z)))


def world(count: int = 2000) -> tuple[list[Positives], Ordinary]:
    of = [positives(A, bells(400, 2, 1)), positives(B, bells(400, 4, 2))]
    return of, ordinary(a=bells(count, -3, 3), b=bells(count, -3, 4))


RULES = (Limits(A, 0.5, 0.9), Limits(B, 0.5, None))


def test_both_limits_hold_over_all_labels_together() -> None:
    of, plain = world()
    found = choose(of, plain, RULES, Costs())
    review = reached(plain, found, block=False).mean()
    block = reached(plain, found, block=True).mean()
    assert 0 < review <= 0.02
    assert block <= 0.001
    by_label = {limits.label: limits for limits in found}
    assert by_label[B].block_at is None, "who may block is the policy's choice"
    weapon = by_label[A]
    assert weapon.review_at is not None
    assert weapon.block_at is not None
    assert weapon.review_at < weapon.block_at < 1


def test_the_budget_is_worth_more_where_it_finds_more() -> None:
    """Sharing the looks beats giving each label half of them."""
    of, plain = world()
    costs = Costs(miss=1000)
    shared = choose(of, plain, RULES, costs)
    halves = tuple(
        choose([mine], plain, [rule], replace(costs, max_review=0.01))[0]
        for mine, rule in zip(of, RULES, strict=True)
    )

    def found(limits: tuple[Limits, ...]) -> float:
        pairs = zip(of, limits, strict=True)
        return sum(float((mine.scores >= (rule.review_at or 2)).mean()) for mine, rule in pairs)

    assert reached(plain, halves, block=False).mean() <= 0.02
    assert found(shared) > found(halves)


def test_dearer_misses_lower_the_threshold_until_the_limit() -> None:
    of, plain = world()
    at = {}
    for miss in (0.5, 5.0, 50.0, 5000.0):
        costs = Costs(miss=miss, max_review=0.05)
        (rule,) = choose(of[:1], plain, RULES[:1], costs)
        assert rule.review_at is not None
        at[miss] = rule.review_at
    assert at[0.5] > at[5.0] > at[50.0] >= at[5000.0]
    assert (plain.scores[A] >= at[5000.0]).mean() <= 0.05


def test_a_label_without_positives_keeps_its_thresholds_and_they_count() -> None:
    of, plain = world()
    fixed = Limits(B, float(np.quantile(plain.scores[B], 0.985)), None)
    found = choose(of[:1], plain, (RULES[0], fixed), Costs(miss=5000))
    assert found[1] == fixed
    assert reached(plain, found, block=False).mean() <= 0.02
    assert reached(plain, found[:1], block=False).mean() <= 0.006


def test_what_is_fixed_may_fill_the_budget_alone() -> None:
    of, plain = world()
    fixed = Limits(B, 0.0, None)
    found = choose(of[:1], plain, (RULES[0], fixed), Costs())
    assert found[0].review_at == 1.0, "nothing more may be shown"


def test_a_block_may_need_a_box() -> None:
    """Ordinary pictures of high score without a box do not keep a label from blocking."""
    scores = np.asarray([0.9] * 10)
    of = Positives(A, scores, np.full(10, "s"), boxed=np.arange(10) < 6)
    plain = replace(ordinary(a=[0.95] * 5 + [0.1] * 95), boxed={A: np.zeros(100, bool)})
    rule = Limits(A, 0.5, 0.99, evidence=True)
    (found,) = choose([of], plain, [rule], Costs(max_review=0.1))
    assert found.block_at is not None
    assert found.block_at <= 0.9
    assert hits(of.scores, of.boxed, found, block=True).sum() == 6
    assert not reached(plain, [found], block=True).any()
    (bare,) = choose([of], plain, [replace(rule, evidence=False)], Costs(max_review=0.1))
    assert bare.block_at == 1.0, "by its score alone it would block the wrong ones"


@settings(deadline=None, max_examples=60)
@given(
    st.lists(unit, min_size=1, max_size=8),
    st.lists(unit, min_size=1, max_size=8),
    st.lists(st.tuples(unit, unit, st.booleans()), min_size=1, max_size=12),
    st.floats(0.001, 1),
    st.floats(0.001, 1),
)
def test_one_label_is_solved_exactly_and_two_never_break_the_limit(
    first: list[float],
    second: list[float],
    plain: list[tuple[float, float, bool]],
    gain: float,
    limit: float,
) -> None:
    known = ordinary(a=[a for a, _, _ in plain], b=[b for _, b, _ in plain])
    already = np.asarray([told for _, _, told in plain])
    of = [positives(A, first), positives(B, second)]
    both = minimise(of, known, already, gain=gain, price=1.0, limit=limit)
    shown = already.copy()
    for label, at in both.items():
        shown |= known.scores[label] >= at
    assert shown.mean() <= limit or all(at == math.inf for at in both.values())

    def cost(at: float) -> float:
        share = (already | (known.scores[A] >= at)).mean()
        recall = float((of[0].scores >= at).mean())
        return math.inf if share > limit else float(share) - gain * recall

    if already.mean() <= limit:
        alone = minimise(of[:1], known, already, gain=gain, price=1.0, limit=limit)[A]
        best = min(cost(at) for at in [*first, math.inf])
        assert cost(alone) == pytest.approx(best)


def test_thresholds_lie_between_the_scores() -> None:
    of = [positives(A, [0.9, 0.95])]
    found = minimise(of, ordinary(a=[0.5] * 100), np.zeros(100, bool), gain=1, price=1, limit=0.02)
    assert found[A] == pytest.approx(0.75), "logit(0.75) is half of logit(0.9)"


@given(st.floats(0, 1.5))
def test_told_thresholds_are_never_lower_and_hardly_higher(threshold: float) -> None:
    short = told(threshold)
    assert short <= 1
    if threshold >= 1:
        assert short == 1
    else:
        assert short >= threshold - 1e-12
        assert short - threshold <= max(0.02 * (1 - threshold), 0.0011) + 1e-12


def test_a_large_source_does_not_decide_alone() -> None:
    weights = source_weights(np.asarray(["big"] * 1000 + ["small"] * 50))
    assert weights[:1000].sum() == pytest.approx(200)
    assert weights[1000:].sum() == pytest.approx(50)


def test_the_cost_counts_looks_misses_and_wrong_blocks() -> None:
    costs = Costs(prevalence=0.01, miss=20, wrong_block=50)
    assert expected_cost([(1, 0)], 0, 0, costs) == 0
    assert expected_cost([(0, 0)], 0, 0, costs) == pytest.approx(0.2)
    assert expected_cost([(1, 1)], 0, 0, costs) == pytest.approx(-0.01)
    assert expected_cost([], 0.02, 0.001, costs) == pytest.approx(0.99 * (0.019 + 0.05))


def test_the_presets_are_ordered() -> None:
    lenient, default, strict = (PRESETS[name] for name in ("lenient", "default", "strict"))
    assert lenient.miss < default.miss < strict.miss
    assert lenient.max_review < default.max_review < strict.max_review
    assert default == Costs(0.01, 20, 50, 0.02, 0.001)
