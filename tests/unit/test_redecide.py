"""Deciding again equals deciding: whatever the scores, boxes, pictures, gaps and rules, also after
they went through the columns of a row."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import RowMapping

from moderation.aggregate import PLAIN, Frame, aggregate, merged
from moderation.packed_scores import PackedScores, pack_film, pack_picture
from moderation.policy import Policy, Rule, decide, summarise
from moderation.redecide import ABSENT, redecide
from moderation.rolling import closing
from moderation.store.score_rows import dump_scores, load_scores
from moderation.types import (
    Coverage,
    Decision,
    Detection,
    LabelScore,
    MediaScores,
    View,
    ViewScores,
)

LABELS = ("porn.explicit", "smoking.smoking", "violence.weapon")
# Decimals that a float32 rounds up, or down, and sums that no decimal is.
GRADES = (0.0, 0.1, 0.29999999999999993, 0.3, 0.5, 0.7, 0.7000000000000001, 0.95, 1.0)
grades = st.sampled_from(GRADES)
ALIKE = "f" * 60 + "0000"
PICTURES = (None, PLAIN, "f" * 64, ALIKE, "0f" * 32, "3c" * 32)


@st.composite
def rules(draw: st.DrawFn, label: str) -> Rule:
    window = draw(st.integers(1, 5))
    low, high = sorted((draw(grades), draw(grades)))
    review_at, block_at = draw(st.sampled_from([(low, high), (low, None), (None, high)]))
    return Rule(
        label=label,
        review_at=review_at,
        block_at=block_at,
        block_needs=draw(st.sampled_from(["score", "evidence"])),
        evidence_at=draw(grades),
        evidence_frames=draw(st.sampled_from([None, 2, 3])),
        min_frames=draw(st.integers(1, window)),
        window=window,
        optional=draw(st.booleans()),
    )


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    named = draw(st.lists(st.sampled_from(LABELS), min_size=1, max_size=3, unique=True))
    return Policy(
        id="p",
        version=1,
        on_failure=draw(st.sampled_from(Decision)),
        rules=tuple(draw(rules(label)) for label in named),
    )


@st.composite
def pictures(draw: st.DrawFn) -> MediaScores:
    answered = draw(st.lists(st.sampled_from(LABELS), min_size=1, max_size=3, unique=True))
    found = []
    for _ in range(draw(st.integers(1, 4))):
        said = {x: draw(grades) for x in answered if draw(st.integers(0, 5))}
        boxes = tuple(
            Detection(label, None, (0.25, 0.25, 0.75, 0.75), draw(grades))
            for label in draw(st.lists(st.sampled_from(LABELS), max_size=3))
        )
        found.append(ViewScores(said, dict.fromkeys(said, "m@1"), detections=boxes))
    return MediaScores(tuple(View(frame=i) for i in range(len(found))), tuple(found))


@st.composite
def films(draw: st.DrawFn) -> list[Frame]:
    frames, time_s = [], 0.0
    answered = draw(st.lists(st.sampled_from(LABELS), min_size=1, max_size=3, unique=True))
    for _ in range(draw(st.integers(1, 30))):
        # Now and then the same moment again, and gaps of just so much as a segment reaches across.
        time_s += draw(st.sampled_from([0.0, 0.1, 1.0, 1.0, 1.0, 30.0, 30.1, 61.0]))
        peaks = {
            label: LabelScore(
                label,
                draw(grades),
                "m@1",
                boxes=((0.0, 0.0, 1.0, 1.0, draw(grades)),) if draw(st.booleans()) else (),
            )
            for label in answered
            if draw(st.integers(0, 5))
        }
        seen = peaks if draw(st.integers(0, 7)) else None
        frames.append(Frame(time_s, seen, picture=draw(st.sampled_from(PICTURES))))
    return frames


def stored(packed: PackedScores) -> PackedScores:
    """As it comes back from the database."""
    return load_scores(cast(RowMapping, cast(Any, dump_scores(packed))))


@given(st.lists(st.tuples(pictures(), st.booleans()), min_size=1, max_size=4), policies())
def test_pictures(told: list[tuple[MediaScores, bool]], policy: Policy) -> None:
    kept, wanted = [], []
    for scores, complete in told:
        packed = pack_picture(scores, ["m@1"], complete=complete)
        if packed is None:
            continue  # nothing was scored: nothing is stored
        coverage = Coverage(frames_total=2, frames_scored=1 + complete, complete=complete)
        kept.append(stored(packed))
        wanted.append(decide(summarise(scores), policy, coverage).decision.severity)
    assert redecide(kept, policy).severity.tolist() == wanted


@given(films(), policies(), st.sampled_from([2.0, 10.0, 30.5]))
def test_films(frames: list[Frame], policy: Policy, gap_s: float) -> None:
    timeline = aggregate(frames, policy, duration_s=10, frames_total=99, gap_s=gap_s)
    moments = [(one.time_s, one.peaks, one.picture) for one in merged(frames)]
    complete = timeline.coverage.complete
    packed = pack_film(moments, ["m@1"], complete=complete, gap_s=gap_s)
    if packed is None:
        return
    found = redecide([stored(packed)], policy)
    assert found.severity.tolist() == [timeline.outcome.decision.severity]
    for rule, severity in zip(policy.rules, found.rules[0].tolist(), strict=True):
        own = [p.decision.severity for p in timeline.passages if p.label == rule.label]
        assert severity == max(own, default=0 if rule.label in timeline.peaks else ABSENT)


def test_what_lies_between_hits_is_left_out() -> None:
    """So a long film costs what it shows, not what it lasts."""
    rule = Rule(label=LABELS[0], review_at=0.7, min_frames=2, window=3)
    scores = [0.0] * 5000
    scores[100] = scores[102] = closing(rule) + 0.3
    scores[4000] = 0.9
    moments = [
        (float(i), {LABELS[0]: LabelScore(LABELS[0], score, "m@1")}, None)
        for i, score in enumerate(scores)
    ]
    packed = pack_film(moments, ["m@1"], complete=True, gap_s=2.0)
    assert packed is not None
    policy = Policy(id="p", version=1, rules=(rule,))
    assert redecide([packed], policy).severity.tolist() == [Decision.REVIEW.severity]


def test_rows_of_an_older_version_are_read_and_not_decided_again() -> None:
    values = np.array([[0.3, np.nan], [0.7, 0.1]], "<f4")
    row = {
        "labels": list(LABELS[:2]),
        "models": "m@1",
        "views": 2,
        "packed": values.tobytes(),
        "times": np.array([0.0, 1.5], "<f4").tobytes(),
        "complete": None,
        "gap_s": None,
        "boxes": None,
        "pictures": None,
    }
    packed = load_scores(cast(RowMapping, cast(Any, row)))
    np.testing.assert_array_equal(packed.values, values.astype(np.float64))
    assert packed.times.tolist() == [0.0, 1.5]
    assert packed.peaks() == {LABELS[0]: float(np.float32(0.7)), LABELS[1]: float(np.float32(0.1))}
    policy = Policy(id="p", version=1, rules=(Rule(label=LABELS[0], review_at=0.5),))
    with pytest.raises(ValueError, match="too little"):
        redecide([packed], policy)


def test_a_picture_once_named_is_not_stored_again() -> None:
    peaks = {LABELS[0]: LabelScore(LABELS[0], 0.5, "m@1")}
    many = [(float(i), peaks, ALIKE) for i in range(1000)]
    packed = pack_film(many, ["m@1"], complete=True, gap_s=2.0)
    assert packed is not None
    columns = dump_scores(packed)
    assert columns["boxes"] is None
    assert len(columns["pictures"]) < 200
    assert load_scores(cast(RowMapping, cast(Any, columns))).basis is not None


def test_moments_are_packed_in_order_and_unseen_ones_are_nan() -> None:
    one = {"a.b": LabelScore("a.b", 0.5, "m@1"), "c.d": LabelScore("c.d", 0.25, "m@1")}
    two = {"a.b": LabelScore("a.b", 1.0, "m@1")}
    frames = merged([Frame(2.0, two), Frame(1.0, None), Frame(0.0, one), Frame(2.0, None)])
    moments = [(frame.time_s, frame.peaks, frame.picture) for frame in frames]
    packed = pack_film(moments, ["m@1"], complete=True, gap_s=2.0)
    assert packed is not None
    assert packed.labels == ("a.b", "c.d")
    assert packed.times.tolist() == [0.0, 1.0, 2.0]
    nan = np.nan
    np.testing.assert_array_equal(packed.values, [[0.5, 0.25], [nan, nan], [1.0, nan]])
    assert pack_film([(0.0, None, None)], [], complete=False, gap_s=2.0) is None
