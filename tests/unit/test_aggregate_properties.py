"""What holds for segments whatever the scores and the rule."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from moderation.aggregate import Timeline, aggregate
from moderation.policy import Rule, decide
from moderation.rolling import Change, Passage, RollingAggregate, closing, opening
from moderation.types import (
    Coverage,
    Decision,
)
from tests.fakes.films import PORN, film, judge, policy

grades = st.sampled_from([0.0, 0.3, 0.5, 0.55, 0.69, 0.7, 0.9, 0.95, 1.0])
films = st.lists(st.one_of(st.none(), grades), max_size=40)


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    window = draw(st.integers(1, 6))
    review_at, block_at = draw(st.sampled_from([(0.7, 0.95), (0.5, None), (None, 0.9), (0.7, 0.7)]))
    return Rule(
        label=PORN,
        review_at=review_at,
        block_at=block_at,
        block_needs=draw(st.sampled_from(["score", "evidence"])),
        evidence_frames=draw(st.sampled_from([None, 2, 3])),
        min_frames=draw(st.integers(1, window)),
        window=window,
    )


def told(scores: list[float | None], rule: Rule, *, box: bool = False) -> Timeline:
    frames = film(*scores, box=box)
    return judge(frames, policy(rule, on_failure=Decision.PASS))


@given(films, rules(), st.booleans())
def test_segments_say_what_the_scores_bear_out(
    scores: list[float | None], rule: Rule, box: bool
) -> None:
    seen = [(float(i), s) for i, s in enumerate(scores) if s is not None]
    timeline = told(scores, rule, box=box)
    ends = -1.0
    for p in timeline.passages:
        assert ends < p.start_s <= p.peak_s <= p.end_s
        ends = p.end_s
        inside = [s for t, s in seen if p.start_s <= t <= p.end_s]
        assert p.peak.score == max(inside)
        assert inside[0] >= closing(rule)
        assert inside[-1] >= closing(rule)
        strong = [s for s in inside if rule.block_at is not None and s >= rule.block_at]
        if p.decision is Decision.BLOCK:
            assert len(strong) >= rule.min_frames
            agree = rule.evidence_frames is not None and len(strong) >= rule.evidence_frames
            assert rule.block_needs == "score" or box or agree
        elif not strong:
            assert sum(s >= opening(rule) for s in inside) >= rule.min_frames
    assert timeline.outcome.decision.severity == max(
        (p.decision.severity for p in timeline.passages), default=0
    )


@given(films, rules(), st.booleans())
def test_no_window_that_reaches_the_threshold_is_missed(
    scores: list[float | None], rule: Rule, box: bool
) -> None:
    seen = [(float(i), s) for i, s in enumerate(scores) if s is not None]
    passages = told(scores, rule, box=box).passages
    for at in range(len(seen)):
        window = seen[max(0, at + 1 - rule.window) : at + 1]
        for threshold, least in ((opening(rule), Decision.REVIEW), (rule.block_at, Decision.BLOCK)):
            if threshold is None:
                continue
            counted = [t for t, s in window if s >= threshold]
            agree = rule.evidence_frames is not None and len(counted) >= rule.evidence_frames
            if rule.block_needs == "evidence" and not (box or agree):
                least = Decision.REVIEW
            if len(counted) >= rule.min_frames:
                assert any(
                    p.start_s <= counted[0]
                    and counted[-1] <= p.end_s
                    and p.decision.severity >= least.severity
                    for p in passages
                )


@given(films, rules(), st.integers(0, 39), st.booleans())
def test_a_higher_score_is_never_a_milder_decision(
    scores: list[float | None], rule: Rule, at: int, box: bool
) -> None:
    before = told(scores, rule, box=box).outcome.decision
    raised: list[float | None] = [
        1.0 if i == at and s is not None else s for i, s in enumerate(scores)
    ]
    assert told(raised, rule, box=box).outcome.decision.severity >= before.severity


@given(films, rules(), st.floats(0, 1))
def test_one_odd_frame_never_blocks_what_passed(
    scores: list[float | None], rule: Rule, odd: float
) -> None:
    if rule.min_frames > 1:
        calm = [None if s is None else min(s, 0.3) for s in scores]
        for at in range(len(calm)):
            film_with = [*calm[:at], odd, *calm[at:]]
            assert told(film_with, rule, box=True).outcome.decision is not Decision.BLOCK


@given(films, rules(), st.lists(st.integers(0, 3), min_size=40, max_size=40))
def test_what_blocks_for_want_of_a_box_shows_enough_different_pictures(
    scores: list[float | None], rule: Rule, pictures: list[int]
) -> None:
    told = [f"{(2**32 - 1) << 32 * i:064x}" for i in pictures]
    frames = [replace(f, picture=told[i]) for i, f in enumerate(film(*scores))]
    seen = [(f.picture, s) for f, s in zip(frames, scores, strict=True) if s is not None]
    most = max(
        (
            len({shown for shown, s in part if s >= (rule.block_at or 2.0)})
            for part in (seen[i : i + rule.window] for i in range(len(seen)))
        ),
        default=0,
    )
    decision = judge(frames, policy(rule, on_failure=Decision.PASS)).outcome.decision
    if rule.block_needs == "evidence" and decision is Decision.BLOCK:
        assert rule.evidence_frames is not None
        assert most >= rule.evidence_frames


@given(films, rules(), st.integers(0, 2**32))
def test_the_order_of_the_frames_does_not_matter(
    scores: list[float | None], rule: Rule, seed: int
) -> None:
    frames = film(*scores)
    mixed = random.Random(seed).sample(frames, len(frames))
    duration_s = float(len(frames) + 1)
    one, other = (
        aggregate(given, policy(rule), duration_s=duration_s, frames_total=900, gap_s=1.0)
        for given in (frames, mixed + mixed[:3])
    )
    assert one == other


@given(grades, rules(), st.booleans())
def test_a_video_of_one_frame_is_judged_as_a_picture(score: float, rule: Rule, box: bool) -> None:
    single = rule.model_copy(update={"min_frames": 1, "window": 1})
    (frame,) = film(score, box=box)
    assert frame.peaks is not None
    picture = decide(
        frame.peaks, policy(single), Coverage(frames_total=1, frames_scored=1, complete=True)
    )
    assert judge([frame], policy(single)).outcome.decision is picture.decision


@given(films, rules(), st.booleans())
def test_rolling_tells_of_every_segment_from_opening_to_close(
    scores: list[float | None], rule: Rule, box: bool
) -> None:
    rolling = RollingAggregate(policy(rule))
    open_now: Passage | None = None
    closed = []
    changes: list[Change] = []
    for frame in film(*scores, box=box):
        changes += rolling.add(frame.time_s, frame.peaks)
    for change in [*changes, *rolling.finish()]:
        new = change.passage
        if change.kind == "opened":
            assert open_now is None
        else:
            assert open_now is not None
            assert (new.label, new.start_s) == (open_now.label, open_now.start_s)
            assert new.end_s >= open_now.end_s
            assert new.peak.score >= open_now.peak.score
            assert new.decision.severity >= open_now.decision.severity
        assert new.decision is not Decision.PASS
        open_now = None if change.kind == "closed" else new
        if change.kind == "closed":
            closed.append(new)
    assert open_now is None
    assert tuple(closed) == told(scores, rule, box=box).passages
    assert rolling.finish() == ()
