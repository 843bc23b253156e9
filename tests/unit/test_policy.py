"""The policy is pure: scores in, decision and reasons out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.errors import MediaError, PolicyError
from moderation.labels import LABELS
from moderation.policy import (
    Policy,
    Rule,
    choose_policy,
    decide,
    decide_failure,
    flat_scores,
    judge,
    load_policies,
    parse_policy,
    problem_of,
    rules_without_model,
    summarise,
)
from moderation.types import (
    Coverage,
    Decision,
    Detection,
    LabelScore,
    MediaScores,
    View,
    ViewScores,
)

SEEN = Coverage(frames_total=1, frames_scored=1, complete=True)


def peak(label: str, score: float, *, boxes: int = 0) -> LabelScore:
    return LabelScore(label, score, "m@1", boxes=((0.1, 0.1, 0.2, 0.2, 0.9),) * boxes)


def policy(*rules: Rule, on_failure: Decision = Decision.REVIEW) -> Policy:
    return Policy(id="p", version=3, rules=rules, on_failure=on_failure)


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (0.0, Decision.PASS),
        (0.49, Decision.PASS),
        (0.5, Decision.REVIEW),
        (0.79, Decision.REVIEW),
        (0.8, Decision.BLOCK),
        (1.0, Decision.BLOCK),
    ],
)
def test_thresholds_are_inclusive(score: float, expected: Decision) -> None:
    rule = Rule(label="porn.explicit", review_at=0.5, block_at=0.8)
    assert judge(peak("porn.explicit", score), rule)[0] is expected


def test_a_small_object_does_not_block_without_evidence() -> None:
    rule = Rule(label="violence.weapon", review_at=0.5, block_at=0.9, block_needs="evidence")
    assert judge(peak("violence.weapon", 0.99), rule) == (Decision.REVIEW, 0.5)
    assert judge(peak("violence.weapon", 0.99, boxes=1), rule) == (Decision.BLOCK, 0.9)


@pytest.mark.parametrize(("at", "blocks"), [(0.9, True), (0.91, False), (0.3, True), (0.0, True)])
def test_a_box_is_evidence_from_a_score_of_its_own(at: float, blocks: bool) -> None:
    rule = Rule(label="violence.weapon", block_at=0.9, block_needs="evidence", evidence_at=at)
    decision = Decision.BLOCK if blocks else Decision.REVIEW
    assert judge(peak("violence.weapon", 0.99, boxes=1), rule) == (decision, 0.9)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"block_needs": "score"}, ""),
        ({"window": 3, "min_frames": 2}, "a box or 3 frames"),
        ({"window": 5, "evidence_frames": 2}, "a box or 2 frames"),
        ({"window": 2}, "a box"),
        ({"window": 5, "evidence_frames": None}, "a box"),
    ],
)
def test_a_rule_says_in_words_what_blocking_needs(changes: dict[str, Any], words: str) -> None:
    told = {"label": "violence.weapon", "block_at": 0.9, "block_needs": "evidence"}
    assert Rule.model_validate(told | changes).evidence == words


def test_block_without_evidence_falls_to_review_where_only_block_is_set() -> None:
    rule = Rule(label="violence.weapon", block_at=0.9, block_needs="evidence")
    assert judge(peak("violence.weapon", 0.95), rule) == (Decision.REVIEW, 0.9)


def test_reasons_come_worst_first_and_name_model_and_threshold() -> None:
    rules = policy(
        Rule(label="smoking.smoking", review_at=0.5),
        Rule(label="porn.explicit", review_at=0.5, block_at=0.8),
    )
    peaks = {p.label: p for p in (peak("smoking.smoking", 0.99), peak("porn.explicit", 0.81))}
    outcome = decide(peaks, rules, SEEN)
    assert outcome.decision is Decision.BLOCK
    assert [(r.label, r.decision, r.threshold, r.model) for r in outcome.reasons] == [
        ("porn.explicit", Decision.BLOCK, 0.8, "m@1"),
        ("smoking.smoking", Decision.REVIEW, 0.5, "m@1"),
    ]
    assert outcome.reasons[0].category == "porn"


def test_a_label_that_no_model_answers_is_not_a_pass() -> None:
    outcome = decide({}, policy(Rule(label="violence.riot", review_at=0.5)), SEEN)
    assert outcome.decision is Decision.REVIEW
    assert "no loaded model answers violence.riot" in (outcome.reasons[0].detail or "")


@pytest.mark.parametrize("on_failure", list(Decision))
def test_unseen_frames_follow_on_failure(on_failure: Decision) -> None:
    rules = policy(Rule(label="porn.explicit", review_at=0.5), on_failure=on_failure)
    half = Coverage(frames_total=2, frames_scored=1, frames_failed=1, complete=False)
    assert decide({"porn.explicit": peak("porn.explicit", 0.0)}, rules, half).decision is on_failure


@pytest.mark.parametrize("on_failure", list(Decision))
def test_a_failed_medium_follows_on_failure_and_says_why(on_failure: Decision) -> None:
    rules = policy(Rule(label="porn.explicit", review_at=0.5), on_failure=on_failure)
    problem = problem_of(MediaError("the picture ends after 10 bytes", code="truncated"))
    outcome = decide_failure(rules, problem)
    assert outcome.decision is on_failure
    assert outcome.reasons[0].label == "failure.truncated"
    assert outcome.reasons[0].detail == "the picture ends after 10 bytes"
    assert (problem.status, problem.code, problem.title) == (422, "truncated", "Truncated")


unit = st.floats(0, 1)


@given(scores=st.lists(unit, min_size=1, max_size=6), review=unit, block=unit)
def test_worst_view_decides_never_the_mean(
    scores: list[float], review: float, block: float
) -> None:
    review, block = sorted((review, block))
    rule = Rule(label="porn.explicit", review_at=review, block_at=block)
    views = tuple(View(frame=i) for i in range(len(scores)))
    media = MediaScores(
        views, tuple(ViewScores({"porn.explicit": s}, {"porn.explicit": "m@1"}) for s in scores)
    )
    peaks = summarise(media)
    assert flat_scores(peaks) == {"porn.explicit": max(scores)}
    assert scores[peaks["porn.explicit"].frames[0]] == max(scores)
    each = [judge(peak("porn.explicit", s), rule)[0].severity for s in scores]
    assert decide(peaks, policy(rule), SEEN).decision.severity == max(each)


@given(low=unit, high=unit, review=unit, block=unit)
def test_a_higher_score_is_never_a_milder_decision(
    low: float, high: float, review: float, block: float
) -> None:
    low, high = sorted((low, high))
    review, block = sorted((review, block))
    rule = Rule(label="porn.explicit", review_at=review, block_at=block)
    mild = judge(peak("porn.explicit", low), rule)[0]
    assert judge(peak("porn.explicit", high), rule)[0].severity >= mild.severity


def test_boxes_of_a_tile_are_told_in_fractions_of_the_picture() -> None:
    tile = View(box=(0.5, 0.0, 1.0, 1.0))
    found = Detection("violence.weapon", "pistol", (0.0, 0.5, 0.5, 1.0), 0.7)
    scored = ViewScores(
        {"violence.weapon": 0.9},
        {"violence.weapon": "m@1"},
        {"violence.weapon": "pistol"},
        (found,),
    )
    only = summarise(MediaScores((tile,), (scored,)))["violence.weapon"]
    assert only.boxes == ((0.5, 0.5, 0.75, 1.0, 0.7),)
    assert only.sublabel == "pistol"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id: [", "not YAML"),
        ("{}", "Field required"),
        ("id: a\nversion: 1\nrules: []", "rules"),
        ("id: a\nversion: 1\nrules: [{label: porn.explicit}]", "no threshold"),
        ("id: a\nversion: 1\nrules: [{label: x.y, review_at: 0.9, block_at: 0.5}]", "above"),
        ("id: a\nversion: 1\nrules: [{label: x.y, review_at: 2}]", "less than or equal to 1"),
        (
            "id: a\nversion: 1\nrules: [{label: x.y, review_at: 1}, {label: x.y, review_at: 1}]",
            "two",
        ),
        ("id: a\nversion: 1\nextra: 1\nrules: [{label: x.y, review_at: 1}]", "extra"),
        ("id: a\nversion: 1\nrules: [{label: x.y, review_at: 1, min_frames: 2}]", "window"),
        ("id: a\nversion: 1\nrules: [{label: x.y, review_at: 1, evidence_at: 2}]", "less than"),
        ("id: a\nversion: 1\nrules: [{label: x.y, review_at: 1, evidence_frames: 1}]", "greater"),
    ],
)
def test_a_bad_policy_is_one_clear_line(text: str, words: str) -> None:
    with pytest.raises(PolicyError, match=words) as caught:
        parse_policy(text, name="bad.yaml")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("bad.yaml")


def test_a_folder_that_is_not_there_and_a_file_that_is_no_text_are_told(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="no policy folder"):
        load_policies(tmp_path / "none")
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(PolicyError, match=r"bad\.yaml: cannot be read"):
        load_policies(tmp_path)
    (tmp_path / "bad.yaml").unlink()
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(PolicyError, match=r"folder\.yaml: cannot be read"):
        load_policies(tmp_path)


def test_shipped_policies_are_ordered_by_strictness() -> None:
    policies = load_policies()
    assert {"default", "strict", "lenient"} <= set(policies)
    for rule in policies["default"].rules:
        for name, sign in (("strict", 1), ("lenient", -1)):
            other = next(r for r in policies[name].rules if r.label == rule.label)
            assert rule.review_at is not None
            assert other.review_at is not None
            assert sign * (rule.review_at - other.review_at) >= 0, rule.label


def test_no_shipped_policy_blocks_a_small_object_or_a_fight_on_a_score_alone() -> None:
    for shipped in load_policies().values():
        for rule in shipped.rules:
            if rule.label in ("smoking.smoking", "violence.weapon", "violence.fight"):
                assert rule.block_at is None or rule.block_needs == "evidence", shipped.ref


def test_choose_policy_by_id_and_version(tmp_path: object) -> None:
    policies = load_policies()
    assert choose_policy(policies, "default").id == "default"
    current = policies["default"].ref
    assert choose_policy(policies, current).ref == current
    for name in ("nope", "default@99"):
        with pytest.raises(PolicyError, match="there are: default@"):
            choose_policy(policies, name)


def test_rules_without_a_model_are_listed() -> None:
    rules = policy(Rule(label="a.b", review_at=0.5), Rule(label="c.d", review_at=0.5))
    assert rules_without_model([rules], ["a.b"]) == {"p@3": ["c.d"]}


def test_an_optional_rule_is_skipped_without_a_model_and_holds_with_one() -> None:
    rules = policy(Rule(label="smoking.vape", review_at=0.9, optional=True))
    assert decide({}, rules, SEEN).decision is Decision.PASS
    found = {"smoking.vape": peak("smoking.vape", 0.95)}
    assert decide(found, rules, SEEN).decision is Decision.REVIEW


@given(optional=st.booleans(), on_failure=st.sampled_from(list(Decision)), score=st.floats(0, 1))
def test_optional_changes_nothing_where_a_model_answers(
    optional: bool, on_failure: Decision, score: float
) -> None:
    def outcome(**told: bool) -> object:
        rule = Rule(label="smoking.vape", review_at=0.4, block_at=0.8, **told)
        rules = policy(rule, on_failure=on_failure)
        return decide({"smoking.vape": peak("smoking.vape", score)}, rules, SEEN)

    assert outcome(optional=optional) == outcome()


def test_optional_rules_without_a_model_are_listed_apart() -> None:
    rules = policy(
        Rule(label="a.b", review_at=0.5), Rule(label="c.d", review_at=0.5, optional=True)
    )
    assert rules_without_model([rules], []) == {"p@3": ["a.b"]}
    assert rules_without_model([rules], [], optional=True) == {"p@3": ["c.d"]}
    assert rules_without_model([rules], ["c.d"], optional=True) == {}


def test_shipped_rules_without_a_shipped_model_are_optional_and_never_block() -> None:
    mechanism = {label.name for label in LABELS if label.accuracy == "unmeasured"}
    for shipped in load_policies().values():
        rules = {rule.label: rule for rule in shipped.rules}
        assert mechanism < set(rules), shipped.ref
        optional = {label for label, rule in rules.items() if rule.optional}
        assert optional == mechanism | {"porn.sexy"}, shipped.ref
        assert all(rules[label].block_at is None for label in optional), shipped.ref
