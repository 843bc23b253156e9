"""What thresholds do on left-out scores, and `moderation thresholds`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from moderation.cli.app import main
from moderation.errors import ConfigError
from moderation.models.spec import read_spec
from moderation.models.training.leftout import LeftOut, Measured
from moderation.models.training.limits import (
    Material,
    choose_kept,
    choose_limits,
    gather,
    judge_limits,
    limits_of,
    raised,
)
from moderation.models.training.ordinary import as_left_out
from moderation.models.training.thresholds import Costs, Limits
from moderation.policy import SHIPPED, load_policies, parse_policy

ROOT = Path(__file__).resolve().parents[2]
WEAPON, FIRE, SMOKING, FIGHT = (
    "violence.weapon",
    "violence.fire",
    "smoking.smoking",
    "violence.fight",
)
LABELS = (WEAPON, FIRE, SMOKING)
PORN = "porn.explicit"
RULES = (
    Limits(PORN, 0.7, 0.95),
    Limits(WEAPON, 0.5, 0.9, evidence=True),
    Limits(FIRE, 0.5, None),
    Limits(SMOKING, 0.5, 0.9),
)


def scenes(ordinary: int = 1500) -> Measured:
    """Two sources of each label, three of ordinary pictures; scores are probabilities' logits."""
    rng = np.random.default_rng(0)
    shown = 3 * 80
    files = [f"danger/{n}" for n in range(shown)] + [f"safe/{n}" for n in range(ordinary)]
    sources = [f"d{n % 6}" for n in range(shown)] + [f"s{n % 3}" for n in range(ordinary)]
    truth, score = {}, {}
    for number, label in enumerate(LABELS):
        of = np.full(shown + ordinary, -1, np.int8)
        of[number * 80 : number * 80 + 80] = 1
        of[shown:] = 0
        truth[label] = of
        score[label] = np.where(of == 1, rng.normal(3, 2, len(of)), rng.normal(-3, 1.5, len(of)))
    return Measured(
        read_spec(ROOT / "weights" / "scenes" / "model.toml"),
        LeftOut(
            np.asarray(files),
            np.asarray(sources),
            truth,
            {label: of.astype(np.float32) for label, of in score.items()},
            boxed={WEAPON: (np.arange(shown + ordinary) % 2).astype(np.int8)},
            calibration=dict.fromkeys(LABELS, np.asarray([1.0, 0.0])),
        ),
    )


def fights() -> Measured:
    truth = (np.arange(60) % 2).astype(np.int8)
    logits = np.random.default_rng(1).normal(0, 1, 60) + 3 * truth
    return Measured(
        read_spec(ROOT / "weights" / "fights" / "model.toml"),
        LeftOut(
            np.asarray([f"clips/{n}" for n in range(60)]),
            np.asarray([f"c{n % 4}" for n in range(60)]),
            {FIGHT: truth},
            {FIGHT: logits.astype(np.float32)},
            calibration={FIGHT: np.asarray([1.0, 0.0])},
        ),
    )


def porn(count: int) -> LeftOut:
    chance = np.full(count, 0.01)
    chance[0] = 0.8
    names = [f"safe/{n}" for n in range(count)]
    return as_left_out(names, [f"s{n % 3}" for n in range(count)], {PORN: chance})


@pytest.fixture(scope="module")
def material() -> Material:
    return gather([scenes(), fights()], porn(1500))


def test_what_is_not_scored_by_all_counts_nowhere() -> None:
    material = gather([scenes()], porn(900))
    assert len(material.ordinary) == 900
    assert all(np.isfinite(of).all() for of in material.ordinary.scores.values())
    assert {of.label for of in material.positives} == set(LABELS), "porn has none to find"


def test_clips_are_no_ordinary_pictures(material: Material) -> None:
    assert list(material.clips) == [FIGHT]
    assert len(material.clips[FIGHT].negatives) == 30
    assert FIGHT not in material.ordinary.scores


def test_one_label_by_two_models_is_refused() -> None:
    with pytest.raises(ConfigError, match="two models"):
        gather([scenes(), scenes()])


def test_the_limits_hold_on_pictures_that_the_choice_did_not_see(material: Material) -> None:
    costs = Costs(miss=200)
    choice = choose_kept(material, RULES, costs)
    report = judge_limits(material, choice.limits, "shop@1", costs, choice)
    joint = {one.source: one for one in report.joint}
    unseen = joint["not seen by the choice: fifths"]
    assert 0 < unseen.review.share <= costs.max_review
    assert unseen.block.share <= costs.max_block
    assert joint["ordinary pictures"].review.share <= choice.budget <= costs.max_review
    by_label = {rule.label: rule for rule in choice.limits}
    assert by_label[PORN] == RULES[0], "what nobody could measure keeps its thresholds"
    assert by_label[FIRE].block_at is None
    assert joint["s0"].review.count == 500


def test_the_limit_at_hand_alone_is_broken_by_others(material: Material) -> None:
    """Why the budget has to shrink."""
    costs = Costs(miss=200)
    plain = choose_limits(material, RULES, costs)
    choice = choose_kept(material, RULES, costs)
    naive = replace(choice, limits=plain, budget=costs.max_review, margin=0.0)
    joint = judge_limits(material, plain, "shop@1", costs, naive).joint
    unseen = next(one for one in joint if one.source.endswith("fifths"))
    assert unseen.review.share > costs.max_review
    assert choice.budget < costs.max_review


def test_rows_tell_what_is_found_of_each_source(material: Material) -> None:
    rules = (*RULES, Limits(FIGHT, 0.5, None))
    report = judge_limits(material, rules, "shop@1", Costs())
    rows = {(row.label, row.what): row for row in report.rows}
    weapon = rows[WEAPON, "pictures"]
    assert [one.source for one in weapon.found] == ["all", *(f"d{n}" for n in range(6))]
    assert sum(one.review.hits for one in weapon.found[1:]) == weapon.found[0].review.hits
    assert weapon.found[0].block.share < 0.5, "half have no box"
    assert rows[PORN, "pictures"].recall is None
    false = rows[PORN, "pictures"].false
    assert false is not None
    assert false.review.hits == 1
    assert rows[FIGHT, "clips"].found[0].review.count == 30
    assert json.loads(json.dumps(report.to_json()))["policy"] == "shop@1"


def test_where_clips_answer_they_choose_the_block(material: Material) -> None:
    (found,) = choose_limits(material, (Limits(FIGHT, None, 0.5),), Costs(prevalence=0.5))
    negatives = material.clips[FIGHT].negatives.scores[FIGHT]
    assert found.block_at is not None
    assert found.block_at < 1
    assert (negatives >= found.block_at).mean() <= 0.001


@given(st.floats(0.01, 0.999), st.floats(0, 2))
@example(0.010000000000000002, 1.4e-45)
def test_a_raised_threshold_never_falls(threshold: float, margin: float) -> None:
    found = raised(threshold, margin)
    assert found is not None
    assert threshold <= found <= 1
    assert raised(None, margin) is None
    assert raised(1.0, margin) == 1.0


class TestCommand:
    def test_the_shipped_policies_are_those_that_it_chooses(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for policy in ("default", "strict", "lenient"):
            assert main(["thresholds", "--policy", policy, "--json"]) == 0
            rows = json.loads(capsys.readouterr().out)["rows"]
            chosen = {row["label"]: (row["review_at"], row["block_at"]) for row in rows}
            for rule in limits_of(load_policies()[policy]):
                assert chosen[rule.label] == (rule.review_at, rule.block_at), policy

    def test_the_default_keeps_its_limits_on_ordinary_pictures(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["thresholds", "--as-is", "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        (every, *_) = told["joint"]
        assert every["review"]["share"] <= 0.02
        assert every["block"]["share"] <= 0.001
        assert every["review"]["count"] > 3000

    def test_a_policy_of_ones_own_is_written_and_keeps_its_words(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "shop.yaml"
        path.write_text(
            "id: shop  # ours\nversion: 4\nrules:\n"
            "  - {label: violence.fire, review_at: 0.5}  # lamps\n"
        )
        monkeypatch.setenv("MODERATION_POLICY_DIR", str(tmp_path))
        shipped = (SHIPPED / "default.yaml").read_bytes()
        assert main(["thresholds", "--policy", "shop", "--write"]) == 0
        text = path.read_text()
        assert "# ours" in text
        assert "# lamps" in text
        policy = parse_policy(text)
        assert policy.version == 5
        assert (policy.rules[0].review_at or 0) > 0.5
        assert "shop.yaml: written" in capsys.readouterr().err
        assert main(["thresholds", "--policy", "shop", "--write"]) == 0
        assert "nothing to change" in capsys.readouterr().err
        assert (SHIPPED / "default.yaml").read_bytes() == shipped

    def test_a_dearer_miss_finds_more(self, capsys: pytest.CaptureFixture[str]) -> None:
        found = []
        for miss in ("1", "100"):
            assert main(["thresholds", "--miss", miss, "--json"]) == 0
            rows = json.loads(capsys.readouterr().out)["rows"]
            found.append(sum(row["recall"] or 0 for row in rows if row["what"] == "pictures"))
        assert found[0] < found[1]

    @pytest.mark.parametrize(
        "arguments", [["--as-is", "--write"], ["--policy", "nobody"], ["--prevalence", "0"]]
    )
    def test_what_makes_no_sense_is_refused(self, arguments: list[str]) -> None:
        assert main(["thresholds", *arguments]) == 2

    def test_the_table_has_labels_and_ordinary_pictures(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["thresholds", "--as-is"]) == 0
        out, err = capsys.readouterr()
        assert "violence.weapon\tpictures\twpn_lane" in out
        assert "ordinary pictures\t" in out
        assert "expected cost" in err
