"""Several opinions on one label become its score; what is left out never changes a decision."""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_ensemble import Counting, Toy, porn, spec, view

from moderation.errors import SpecError
from moderation.models.cascade import DRIFT, MARGIN
from moderation.models.ensemble import Ensemble, Network
from moderation.models.fusion import Fusion, FusionRule, fused, read_fusions
from moderation.models.spec import ModelSpec, read_specs

PORN = "porn.explicit"
A, B, C = "a@1", "b@1", "c@1"
unit = st.floats(0, 1)


def rule(kind: str, **more: object) -> FusionRule:
    told = {"label": PORN, "kind": kind, "models": (A, B, C)}
    return FusionRule.model_validate(told | more)


@st.composite
def rules(draw: st.DrawFn) -> FusionRule | None:
    kind = draw(st.sampled_from(["", "mean", "min", "second", "logistic"]))
    if not kind:
        return None
    gated = draw(st.sampled_from([(), (C,), (A, B)]))
    if kind != "logistic":
        return rule(kind, gated=gated)
    weights = draw(st.tuples(*[st.floats(0, 4)] * 3))
    return rule(kind, gated=gated, weights=weights, bias=draw(st.floats(-9, 9)))


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (None, 0.5),
        (rule("mean"), 0.5),
        (rule("min"), 0.2),
        (rule("second"), 0.4),
        (rule("mean", gated=[C]), 1 / 3),
        (rule("mean", gated=[A, B]), 0.5),
        (rule("logistic", weights=[1, 0, 0]), 0.2),
        (rule("logistic", weights=[0, 0, 0], bias=0), 0.5),
        (rule("logistic", weights=[1, 1, 1]), 0.6),
        (rule("logistic", weights=[0, 0, 1], gated=[C]), 0.4),
    ],
)
def test_each_kind_does_its_arithmetic(told: FusionRule | None, expected: float) -> None:
    assert fused(told, {A: 0.2, B: 0.4, C: 0.9}) == pytest.approx(expected, abs=1e-9)


def test_a_logistic_fusion_is_never_carried_by_one_model_that_is_quite_sure() -> None:
    even = rule("logistic", weights=[1, 1, 1])
    assert fused(even, {A: 1.0, B: 0.02, C: 0.02}) < 0.5
    assert fused(even, {A: 0.0, B: 0.0, C: 0.0}) > 0


@given(rules(), unit, unit, unit, st.sampled_from([A, B, C]), unit)
def test_a_higher_opinion_never_lowers_a_score(
    told: FusionRule | None, a: float, b: float, c: float, which: str, raised: float
) -> None:
    said = {A: a, B: b, C: c}
    higher = said | {which: max(said[which], raised)}
    assert fused(told, higher) >= fused(told, said) - 1e-12
    assert 0 <= fused(told, said) <= 1


def write(folder: Path, text: str) -> Path:
    (folder / "fusion.toml").write_text(text)
    return folder


GOOD = """
[[fusions]]
label = "porn.explicit"
kind = "logistic"
models = ["a@1", "b@1"]
weights = [0.7, 0.5]
bias = -0.25
[[fusions]]
label = "porn.explicit"
kind = "mean"
models = ["a@1", "b@1", "c@1"]
gated = ["c@1"]
"""


def test_a_file_of_fusions(tmp_path: Path) -> None:
    assert read_fusions(tmp_path) == ()
    two, three = read_fusions(write(tmp_path, GOOD))
    assert (two.kind, two.models, two.weights, two.bias) == ("logistic", (A, B), (0.7, 0.5), -0.25)
    assert (three.kind, three.gated) == ("mean", (C,))


def test_a_folder_of_ones_own_has_the_last_word(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    own = GOOD.replace("-0.25", "0.5").replace('"mean"', '"second"')
    rules = read_fusions(write(tmp_path, GOOD), write(tmp_path / "own", own))
    both = Fusion([porn("a", 1).spec, porn("b", 1).spec], rules)
    logistic = rule("logistic", models=(A, B), weights=[0.7, 0.5], bias=0.5)
    assert both.score(PORN, {A: 0.5, B: 0.25}) == fused(logistic, {A: 0.5, B: 0.25})


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[0.7, 0.5]", "[0.7]", "one weight for each model"),
        ("[0.7, 0.5]", "[0.7, -0.5]", "weights"),
        ("-0.25", "inf", "bias"),
        ('"logistic"', '"min"', "belong to a logistic fusion"),
        ('"logistic"', '"max"', "kind"),
        ('models = ["a@1", "b@1"]', 'models = ["a@1"]', "models"),
        ('models = ["a@1", "b@1"]', 'models = ["a@1", "a@1"]', "names a model twice"),
        ('models = ["a@1", "b@1"]', 'models = ["a@1", "b"]', "models"),
        ('"a@1", "b@1", "c@1"', '"b@1", "a@1"', "gates some of its models"),
        ('gated = ["c@1"]', 'gated = ["a@1", "b@1", "c@1"]', "gates some of its models"),
        ('"a@1", "b@1", "c@1"]\ngated = ["c@1"]', '"b@1", "a@1"]', "two fusions of the same"),
        ("bias = -0.25", "bias = -0.25\nbais = 1", "bais"),
        ("[[fusions]]", "[[fusions", "fusion.toml"),
    ],
)
def test_a_bad_file_is_one_clear_line(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in GOOD
    with pytest.raises(SpecError, match=words) as caught:
        read_fusions(write(tmp_path, GOOD.replace(old, new)))
    assert str(tmp_path) in str(caught.value)


def test_a_fusion_holds_for_the_models_that_it_names_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    least = rule("min", models=(A, B))
    both = [porn("a", 1).spec, porn("b", 1).spec]
    with caplog.at_level(logging.WARNING, "moderation"):
        assert Fusion(both, [least]).score(PORN, {A: 0.25, B: 0.75}) == 0.25
        assert Fusion(both[:1], [least]).score(PORN, {A: 0.25}) == 0.25
    assert caplog.records == []
    with caplog.at_level(logging.WARNING, "moderation"):
        three = Fusion([*both, porn("c", 1).spec], [least])
    assert three.score(PORN, {A: 0.25, B: 0.75, C: 0.5}) == 0.5
    assert "no fusion of porn.explicit fits a@1, b@1, c@1" in caplog.text


# --- the shipped rules ------------------------------------------------------------------

WEIGHTS = Path(__file__).resolve().parents[2] / "weights"
SAFETY, YAHOO, NSFWJS = "image-safety-s@1", "open-nsfw@1", "nsfwjs-inception@1"


@cache
def manifests() -> tuple[ModelSpec, ...]:
    return read_specs(WEIGHTS)


def shipped(*refs: str) -> Fusion:
    """The shipped rules for these of the shipped models."""
    specs = [one for one in manifests() if one.ref in refs]
    assert {one.ref for one in specs} == set(refs)
    return Fusion(specs, read_fusions(WEIGHTS))


def test_shipped_rules_name_shipped_models_that_answer_their_label() -> None:
    answers = {one.ref: {x.label for x in one.labels} for one in manifests()}
    for told in read_fusions(WEIGHTS):
        assert all(told.label in answers[ref] for ref in told.models), told


def test_two_opinions_on_porn_are_their_mean(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "moderation"):
        fusion = shipped(SAFETY, YAHOO)
    assert caplog.records == []
    assert fusion.score(PORN, {SAFETY: 0.9, YAHOO: 0.3}) == pytest.approx(0.6)


@given(one=unit, other=unit, third=unit)
def test_nsfwjs_supports_and_never_accuses_alone(one: float, other: float, third: float) -> None:
    three = shipped(SAFETY, YAHOO, NSFWJS).score(PORN, {SAFETY: one, YAHOO: other, NSFWJS: third})
    held = min(third, max(one, other))
    assert three == pytest.approx((one + other + held) / 3)
    for ref in (SAFETY, YAHOO):
        assert shipped(ref, NSFWJS).score(PORN, {ref: one, NSFWJS: third}) <= one + 1e-12


# --- the cascade ------------------------------------------------------------------------


def network(name: str, value: float) -> Network:
    """Says so much of every view, and counts its passes."""
    return Network(porn(name, 1).spec, Counting({"p": 2}, value / 255))


def trio(
    told: FusionRule | None, values: tuple[float, float, float], drift: float | None = None
) -> Ensemble:
    """Three networks of one label, of which two are second opinions; drift: by how much the
    first look in another precision says less."""
    networks = [network(n, v) for n, v in zip("abc", values, strict=True)]
    quick = {}
    if drift is not None:
        quick = {
            n.spec.ref: network(n.spec.id, v - drift) for n, v in zip(networks, values, strict=True)
        }
    return Ensemble(networks, [], quick, fusions=[] if told is None else [told])


def said(ensemble: Ensemble, floor: float | None) -> tuple[float, str]:
    floors = None if floor is None else [{PORN: floor}]
    (scored,) = ensemble.score([view(ensemble, 255)], floors)  # type: ignore[list-item,arg-type]
    return scored.scores[PORN], scored.models[PORN]


@given(rules(), st.tuples(unit, unit, unit), unit)
def test_what_is_left_out_never_changes_a_decision(
    told: FusionRule | None, values: tuple[float, float, float], floor: float
) -> None:
    ensemble = trio(told, values)
    exact, everyone = said(ensemble, None)
    some, asked = said(ensemble, floor)
    assert everyone == "a@1+b@1+c@1"
    if asked == everyone:
        assert some == exact
    else:
        assert max(some, exact) < floor


@given(rules(), st.tuples(*[st.floats(0.02, 1)] * 3), unit, st.floats(-MARGIN, MARGIN * 0.99))
def test_a_first_look_never_changes_one_either(
    told: FusionRule | None, values: tuple[float, float, float], floor: float, drift: float
) -> None:
    """As long as it is no further off than the margins say."""
    drift = min(drift, min(values) * DRIFT / (1 + DRIFT))
    exact, _ = said(trio(told, values), None)
    some, asked = said(trio(told, values, drift), floor)
    if exact >= floor:
        assert (some, asked) == (exact, "a@1+b@1+c@1")
    else:
        assert some < floor


@pytest.mark.parametrize(("kind", "asked"), [("mean", 3), ("min", 1), ("second", 3)])
def test_three_models_may_each_be_the_one_that_lifts_a_score(kind: str, asked: int) -> None:
    """0.1 and two opinions of 1 have a mean of 0.7; the lowest of them stays 0.1."""
    _, models = said(trio(rule(kind), (0.1, 1.0, 1.0)), 0.7)
    assert len(models.split("+")) == asked


def test_the_mean_of_what_is_known_stands_for_what_is_not_asked() -> None:
    ensemble = trio(rule("second"), (0.1, 0.3, 0.2))
    assert said(ensemble, 0.5)[0] == pytest.approx(0.2)
    assert said(trio(rule("min"), (0.1, 0.3, 0.2)), 0.5) == (pytest.approx(0.1), "a@1")


def test_windows_have_fusions_of_their_own() -> None:
    pixels = {"name": "x", "width": 2, "height": 2, "interpolation": "area", "colour": "RGB"}
    fields = {
        "task": "clip",
        "input": pixels | {"layout": "NCTHW"},
        "window": {"frames": 2, "rate": 2.0, "every_s": 1.0},
        "labels": [{"label": "violence.fight", "output": "p", "index": 0}],
    }

    class Whole(Toy):
        def start(self, pixels: np.ndarray) -> Toy:
            return super().start(pixels.reshape(len(pixels), 4, 2, 3))

    clips = [
        Network(spec(name, **fields), Whole({"p": 1}, value / 255))
        for name, value in (("a", 0.25), ("b", 0.75))
    ]
    least = rule("min", label="violence.fight", models=(A, B))
    ensemble = Ensemble([porn("first", 1)], [], clips=clips, fusions=[least])
    (window,) = ensemble.windows
    (scored,) = ensemble.score_windows(window, np.full((1, 2, 2, 2, 3), 255, np.uint8))
    assert scored.scores == {"violence.fight": pytest.approx(0.25)}
