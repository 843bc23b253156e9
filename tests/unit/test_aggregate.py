"""Frame scores -> segments -> the decision of a video."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.aggregate import PLAIN, Frame, aggregate, hits
from moderation.policy import Rule, load_policies
from moderation.rolling import RollingAggregate, closing, different, opening
from moderation.types import (
    Coverage,
    Decision,
    Segment,
    Status,
    Verdict,
)
from moderation.video.sampling import SamplingOptions, plan, refine
from tests.fakes.films import BOX, GUN, PORN, TWO_OF_THREE, film, found, judge, policy, spans

# --- N of M -----------------------------------------------------------------------------


def test_a_passage_is_found_with_its_borders_and_peak() -> None:
    (passage,) = judge(film(0, 0, 0.8, 0.97, 0.99, 0.8, 0, 0)).passages
    assert (passage.start_s, passage.end_s) == (2, 5)
    assert (passage.peak_s, passage.peak.score) == (4, 0.99)
    assert (passage.decision, passage.threshold) == (Decision.BLOCK, 0.95)


@pytest.mark.parametrize("at", [0, 1, 5, 9])
def test_a_lone_frame_never_blocks_wherever_it_is(at: int) -> None:
    scores = [0.0] * 10
    scores[at] = 1.0
    timeline = judge(film(*scores))
    assert timeline.outcome.decision is Decision.REVIEW
    assert spans(timeline) == [("review", at, at)]


def test_a_lone_frame_below_the_blocking_threshold_is_nothing() -> None:
    timeline = judge(film(0, 0.94, 0, 0))
    assert timeline.outcome.decision is Decision.PASS
    assert timeline.passages == ()
    assert timeline.peaks[PORN].score == 0.94


def test_two_lone_frames_far_apart_do_not_add_up() -> None:
    assert spans(judge(film(1, 0, 0, 1, 0, 0, 1))) == [
        ("review", 0, 0),
        ("review", 3, 3),
        ("review", 6, 6),
    ]


def test_two_of_three_with_a_miss_between_block() -> None:
    assert spans(judge(film(0, 0.96, 0, 0.96, 0))) == [("block", 1, 3)]


def test_a_passage_at_the_very_end_and_the_very_start() -> None:
    assert spans(judge(film(1, 1, 0, 0, 0, 1, 1))) == [("block", 0, 1), ("block", 5, 6)]


def test_the_worst_segment_decides_never_the_mean() -> None:
    timeline = judge(film(*[0.0] * 5000, 0.97, 0.97, *[0.0] * 5000))
    assert timeline.outcome.decision is Decision.BLOCK
    (reason,) = timeline.outcome.reasons
    assert (reason.score, reason.threshold, reason.model) == (0.97, 0.95, "m@1")
    assert reason.detail == "5000.0-5001.0 s"


def test_the_reason_is_that_of_the_worst_segment() -> None:
    timeline = judge(film(0.96, 0.96, 0, 0, 0.94, 0.94, 0, 0, 0.99, 0.99))
    (reason,) = timeline.outcome.reasons
    assert (reason.score, reason.detail) == (0.99, "8.0-9.0 s, the worst of 3 segments")


# --- hysteresis -------------------------------------------------------------------------


@given(st.floats(0, 1), st.floats(0, 1))
def test_the_closing_threshold_has_half_the_odds(one: float, other: float) -> None:
    low, high = sorted((one, other))
    rule = Rule(label=PORN, review_at=high)
    assert closing(rule) <= opening(rule) == high
    assert closing(Rule(label=PORN, review_at=low)) <= closing(rule)
    if 0.001 < high < 0.999:
        odds = high / (1 - high)
        assert closing(rule) / (1 - closing(rule)) == pytest.approx(odds / 2)


def test_scores_around_the_threshold_are_one_segment() -> None:
    """A single threshold of 0.7 would make four of it."""
    scores = (0.75, 0.75, 0.6, 0.6, 0.75, 0.6, 0.6, 0.75, 0.6, 0.75, 0, 0)
    assert spans(judge(film(*scores))) == [("review", 0, 9)]


def test_scores_between_the_thresholds_open_nothing() -> None:
    timeline = judge(film(*[0.6] * 20))
    assert timeline.passages == ()
    assert timeline.outcome.decision is Decision.PASS


def test_a_segment_reaches_back_over_what_would_have_kept_it_open() -> None:
    assert spans(judge(film(0, 0.6, 0.6, 0.8, 0.8, 0, 0))) == [("review", 1, 4)]


def test_one_miss_does_not_end_two_of_three_and_two_do() -> None:
    assert spans(judge(film(0.8, 0.8, 0, 0.8, 0.8))) == [("review", 0, 4)]
    assert spans(judge(film(0.8, 0.8, 0, 0, 0.8, 0.8))) == [("review", 0, 1), ("review", 4, 5)]


# --- evidence, labels -------------------------------------------------------------------


EVIDENCE = Rule(
    label=PORN, review_at=0.7, block_at=0.95, block_needs="evidence", min_frames=2, window=3
)


def test_without_a_box_a_small_object_does_not_block() -> None:
    only_boxes = EVIDENCE.model_copy(update={"evidence_frames": None})
    assert spans(judge(film(0.99, 0.99, 0.99), policy(only_boxes))) == [("review", 0, 2)]
    assert spans(judge(film(0.99, 0.99, 0), policy(EVIDENCE))) == [("review", 0, 1)]


def test_frames_that_agree_are_evidence() -> None:
    assert spans(judge(film(0.99, 0.99, 0.99), policy(EVIDENCE))) == [("block", 0, 2)]
    two = EVIDENCE.model_copy(update={"evidence_frames": 2})
    assert spans(judge(film(0.99, 0, 0.99), policy(two))) == [("block", 0, 2)]
    assert spans(judge(film(0.99, 0.8, 0), policy(two))) == [("review", 0, 1)]


def picture(bits: int) -> str:
    """A hash with so many bits set."""
    return f"{(1 << bits) - 1:064x}"


@pytest.mark.parametrize("noise", [(0, 0, 0), (0, 31, 9), (60, 0, 31)])
def test_a_picture_that_is_shown_for_long_does_not_agree_with_itself(
    noise: tuple[int, ...],
) -> None:
    """Decoded twice, or scored twice by a closer look, it is one picture all the same."""
    frames = film(*[0.99] * 12)
    still = [replace(f, picture=picture(noise[i % 3])) for i, f in enumerate(frames)]
    assert judge(still, policy(EVIDENCE)).outcome.decision is Decision.REVIEW
    assert judge(still, policy(TWO_OF_THREE)).outcome.decision is Decision.BLOCK
    moving = [replace(f, picture=picture(64 * (i % 3))) for i, f in enumerate(frames)]
    assert judge(moving, policy(EVIDENCE)).outcome.decision is Decision.BLOCK


def test_plain_pictures_are_one_for_all_that_is_known() -> None:
    frames = [replace(f, picture=PLAIN) for f in film(*[0.99] * 12)]
    assert judge(frames, policy(EVIDENCE)).outcome.decision is Decision.REVIEW


@pytest.mark.parametrize(
    ("pictures", "expected"),
    [([], 0), ([None, None], 2), ([picture(0), picture(31), picture(32)], 2), ([PLAIN, None], 2)],
)
def test_pictures_are_told_apart_by_their_hashes(pictures: list[str | None], expected: int) -> None:
    assert different(pictures) == expected


@pytest.mark.parametrize(
    ("score", "decision"), [(0.29, Decision.REVIEW), (0.3, Decision.BLOCK), (0.9, Decision.BLOCK)]
)
def test_a_box_that_is_not_sure_is_shown_and_no_evidence(score: float, decision: Decision) -> None:
    box = (*BOX[:4], score)
    frames = [
        Frame(float(i), {PORN: replace(found(0.99), boxes=(box,), sublabel="thing")})
        for i in (0, 1)
    ]
    timeline = judge(frames, policy(EVIDENCE))
    assert timeline.outcome.decision is decision
    (reason,) = timeline.outcome.reasons
    assert (reason.boxes, reason.boxes_s, reason.sublabel) == ([list(box)], 0.0, "thing")


def test_boxes_that_are_evidence_are_shown_rather_than_those_of_a_higher_score() -> None:
    weak = replace(found(0.999), boxes=((*BOX[:4], 0.1),), sublabel="knife")
    sure = replace(found(0.96, box=True), sublabel="pistol")
    frames = [Frame(0.0, {PORN: weak}), Frame(1.0, {PORN: sure}), Frame(2.0, {PORN: weak})]
    (passage,) = judge(frames, policy(EVIDENCE)).passages
    assert (passage.peak_s, passage.boxes, passage.boxes_s) == (0.0, (BOX,), 1.0)
    segment = passage.segment()
    assert (segment.sublabel, segment.boxes, segment.boxes_s) == ("pistol", [list(BOX)], 1.0)


def test_a_segment_without_boxes_tells_of_none() -> None:
    (passage,) = judge(film(0.99, 0.99)).passages
    told = passage.segment().model_dump(mode="json")
    assert set(told) == {"label", "decision", "start_s", "end_s", "peak_s", "score"}
    reason = judge(film(0.99, 0.99)).outcome.reasons[0].model_dump(mode="json")
    assert (reason["boxes"], "boxes_s" in reason) == ([], False)


def test_one_box_among_the_frames_that_count_is_evidence() -> None:
    frames = film(0.99, 0.99, 0.99)
    frames[1] = Frame(1.0, {PORN: found(0.96, box=True)})
    (passage,) = judge(frames, policy(EVIDENCE)).passages
    assert passage.decision is Decision.BLOCK
    assert (passage.boxes, passage.boxes_s, passage.peak_s) == ((BOX,), 1.0, 0.0)


def test_a_box_on_a_frame_that_does_not_count_is_none() -> None:
    frames = [*film(0.8), *film(0.99, 0.99)[1:], *film(0, 0, 0.99)[2:]]
    frames[0] = Frame(0.0, {PORN: found(0.8, box=True)})
    timeline = judge(frames, policy(EVIDENCE))
    assert timeline.outcome.decision is Decision.REVIEW
    assert timeline.outcome.reasons[0].boxes == [list(BOX)]


@pytest.mark.parametrize("scores", [(0.99, 0.96), (0.96, 0.99)])
def test_the_evidence_is_of_the_clearest_frame(scores: tuple[float, float]) -> None:
    frames = film(*scores, box=True)
    (passage,) = judge(frames, policy(EVIDENCE)).passages
    assert passage.boxes_s == passage.peak_s == scores.index(0.99)


def test_a_rule_that_only_blocks_asks_a_person_where_it_may_not() -> None:
    rule = Rule(label=PORN, block_at=0.9, block_needs="evidence", min_frames=2, window=2)
    (passage,) = judge(film(0.95, 0.95), policy(rule)).passages
    assert (passage.decision, passage.threshold) == (Decision.REVIEW, 0.9)


def test_a_rule_that_never_blocks() -> None:
    rule = Rule(label=PORN, review_at=0.7, min_frames=2, window=3)
    assert spans(judge(film(1, 0, 0, 1, 1), policy(rule))) == [("review", 3, 4)]


def test_labels_have_segments_of_their_own() -> None:
    gun = Rule(label=GUN, review_at=0.5, min_frames=2, window=2)
    frames = [
        Frame(float(i), {PORN: found(0.96 * (i in (1, 2))), GUN: found(0.6 * (i in (2, 3)), GUN)})
        for i in range(6)
    ]
    timeline = judge(frames, policy(gun, TWO_OF_THREE))
    assert [(p.label, p.start_s, p.end_s) for p in timeline.passages] == [
        (PORN, 1, 2),
        (GUN, 2, 3),
    ]
    assert [r.label for r in timeline.outcome.reasons] == [PORN, GUN]


def test_a_model_that_reads_every_fourth_frame_counts_its_own_frames() -> None:
    fight = Rule(label="violence.fight", review_at=0.5, min_frames=2, window=2)
    frames = [
        Frame(
            float(i),
            {PORN: found(0.0)}
            | ({"violence.fight": found(0.9, "violence.fight")} if i in (4, 8) else {}),
        )
        for i in range(12)
    ]
    assert spans(judge(frames, policy(fight, TWO_OF_THREE))) == [("review", 4, 8)]


def test_a_label_that_no_model_answers_is_not_a_pass() -> None:
    timeline = judge(film(0, 0), policy(Rule(label="violence.riot", review_at=0.5)))
    assert timeline.outcome.decision is Decision.REVIEW
    assert timeline.outcome.reasons[0].detail == "no loaded model answers violence.riot"


def test_an_optional_label_that_no_model_answers_is_skipped() -> None:
    timeline = judge(film(0, 0), policy(Rule(label="violence.riot", review_at=0.5, optional=True)))
    assert timeline.outcome.decision is Decision.PASS
    assert timeline.outcome.reasons == ()


def test_hits_are_what_keeps_a_segment_open() -> None:
    gun = Rule(label=GUN, review_at=0.5)
    rules = policy(TWO_OF_THREE, gun)
    assert hits({PORN: found(0.6), GUN: found(0.3, GUN)}, rules) == {PORN}
    assert hits({GUN: found(0.34, GUN), "other.label": found(1.0, "other.label")}, rules) == {GUN}


# --- what was not seen ------------------------------------------------------------------


def test_an_unseen_moment_is_no_hit_and_no_miss() -> None:
    assert spans(judge(film(0, 0.96, None, 0.96, 0))) == [("block", 1, 3)]
    assert spans(judge(film(0.8, 0.8, None, None, None, 0.8))) == [("review", 0, 5)]


@pytest.mark.parametrize("on_failure", list(Decision))
def test_a_damaged_part_follows_on_failure(on_failure: Decision) -> None:
    timeline = judge(film(0, 0, None, None, 0, 0), policy(on_failure=on_failure))
    assert timeline.outcome.decision is on_failure
    coverage = timeline.coverage
    assert not coverage.complete
    assert coverage.unseen == [(1.0, 4.0)]
    assert (coverage.frames_sampled, coverage.frames_decoded, coverage.frames_failed) == (6, 4, 2)
    assert coverage.largest_gap_s == 3.0
    if on_failure is not Decision.PASS:
        assert timeline.outcome.reasons[0].detail == "not seen: 1.0-4.0 s"


def test_damage_at_the_ends_reaches_to_the_ends() -> None:
    frames = film(None, 0, 0, None)
    coverage = aggregate(frames, policy(), duration_s=3.5, frames_total=90, gap_s=1.0).coverage
    assert coverage.unseen == [(0.0, 1.0), (2.0, 3.5)]
    assert coverage.frames_total == 90


def test_nothing_seen_is_all_unseen() -> None:
    for frames in ([], film(None, None)):
        timeline = aggregate(frames, policy(), duration_s=9.0, frames_total=0, gap_s=1.0)
        assert timeline.outcome.decision is Decision.REVIEW
        assert timeline.coverage.unseen == [(0.0, 9.0)]


def test_a_part_that_was_never_asked_for_is_unseen_too() -> None:
    frames = film(0, 0, 0)
    coverage = aggregate(frames, policy(), duration_s=60.0, frames_total=1500, gap_s=2.0).coverage
    assert coverage.unseen == [(2.0, 60.0)]
    assert not coverage.complete


def test_many_damaged_parts_are_told_briefly() -> None:
    timeline = judge(film(*[0, None] * 6, 0), gap_s=5.0)
    assert timeline.outcome.reasons[0].detail == (
        "not seen: 0.0-2.0 s, 2.0-4.0 s, 4.0-6.0 s and 3 more"
    )


def test_an_undamaged_plan_is_seen_whole() -> None:
    made = plan(77.0, 25.0, SamplingOptions(seed="x"))
    frames = [Frame(t, {PORN: found(0.0)}) for t in made.times]
    timeline = aggregate(
        frames, policy(), duration_s=77.0, frames_total=1925, gap_s=made.largest_gap_s
    )
    assert timeline.coverage.complete
    assert timeline.outcome.decision is Decision.PASS
    assert timeline.coverage.largest_gap_s == round(made.largest_gap_s, 3)


def test_a_long_unseen_part_is_not_bridged() -> None:
    frames = [Frame(t, {PORN: found(0.96)}) for t in (0.0, 1.0, 50.0, 51.0)]
    assert spans(judge(frames)) == [("block", 0, 1), ("block", 50, 51)]
    lone = [Frame(t, {PORN: found(0.96)}) for t in (0.0, 50.0)]
    assert judge(lone).outcome.decision is Decision.REVIEW


def test_near_duplicates_are_counted_apart() -> None:
    frames = [Frame(float(i), {PORN: found(0.0)}, shared=i % 2 == 1) for i in range(6)]
    coverage = judge(frames).coverage
    assert (coverage.frames_scored, coverage.frames_decoded, coverage.complete) == (3, 6, True)
    assert coverage.notes == [
        "6 of 6 sampled frames seen",
        "3 near-duplicates share the scores of another frame",
    ]


# --- times ------------------------------------------------------------------------------


def test_a_frame_on_screen_for_long_counts_at_every_moment() -> None:
    """A still of three seconds in a file of variable frame rate is one frame, not an odd one."""
    frames = [Frame(float(t), {PORN: found(0.96)}, shown_s=4.2) for t in (5, 6, 7)]
    (passage,) = judge(frames).passages
    assert (passage.decision, passage.start_s, passage.peak_s, passage.end_s) == (
        Decision.BLOCK,
        4.2,
        4.2,
        7,
    )


def test_the_same_moment_twice_counts_once() -> None:
    twice = [*film(0, 1, 0), *film(0, 1, 0)]
    assert spans(judge(twice)) == [("review", 1, 1)]
    assert judge([*film(0, None, 0), *film(0, 0, 0)]).coverage.complete
    assert judge([*film(0, 0, 0), *film(0, None, 0)]).coverage.complete


# --- rolling ----------------------------------------------------------------------------


def test_an_alert_comes_with_the_moment_that_confirms_it() -> None:
    rolling = RollingAggregate(policy())
    kinds = [
        [(c.kind, c.passage.decision.value) for c in rolling.add(f.time_s, f.peaks)]
        for f in film(0, 0.8, 0.8, 0.96, 0.96, 0, 0, 0)
    ]
    review = [[("opened", "review")], [("extended", "review")]]
    assert kinds == [[], [], *review, [("extended", "block")], [], [("closed", "block")], []]


def test_a_source_that_stalls_closes_its_segment() -> None:
    rolling = RollingAggregate(policy(), bridge_s=5.0)
    for frame in film(0.96, 0.96):
        rolling.add(frame.time_s, frame.peaks)
    assert rolling.add(6.0, None) == ()
    (change,) = rolling.add(6.1, None)
    assert (change.kind, change.passage.end_s) == ("closed", 1.0)


def test_a_segment_may_close_and_another_open_at_one_moment() -> None:
    rolling = RollingAggregate(policy(), bridge_s=5.0)
    for frame in film(1, 1):
        rolling.add(frame.time_s, frame.peaks)
    changes = rolling.add(60.0, {PORN: found(1.0)})
    assert [(c.kind, c.passage.start_s) for c in changes] == [("closed", 0), ("opened", 60)]


def test_moments_must_ascend() -> None:
    rolling = RollingAggregate(policy())
    rolling.add(1.0, None)
    with pytest.raises(ValueError, match="after"):
        rolling.add(1.0, {})


# --- sampling, refining and aggregating together ----------------------------------------


@pytest.mark.parametrize("start", [0.0, 1.3, 41.7, 297.0])
@pytest.mark.parametrize("seed", ["a", "b", "c"])
def test_three_seconds_in_five_minutes_are_found_to_a_quarter_second(
    start: float, seed: str
) -> None:
    def score(time_s: float) -> float:
        return 0.97 if start <= time_s <= start + 3 else 0.02

    made = plan(300.0, 30.0, SamplingOptions(seed=seed))
    times = made.times
    while extra := refine(
        times, [hits({PORN: found(score(t))}, policy()) for t in times], tolerance_s=0.25
    ):
        times = tuple(sorted({*times, *extra}))
    assert len(times) < len(made.times) + 10
    frames = [Frame(t, {PORN: found(score(t))}) for t in times]
    timeline = aggregate(
        frames, policy(), duration_s=300.0, frames_total=9000, gap_s=made.largest_gap_s
    )
    (passage,) = timeline.passages
    assert passage.decision is Decision.BLOCK
    assert abs(passage.start_s - start) <= 0.25
    assert abs(passage.end_s - (start + 3)) <= 0.25


def test_one_odd_frame_stays_one_after_a_closer_look() -> None:
    made = plan(60.0, 30.0, SamplingOptions(seed="a"))
    odd = made.times[20]
    times = made.times
    while extra := refine(
        times, [hits({PORN: found(float(t == odd))}, policy()) for t in times], tolerance_s=0.1
    ):
        times = tuple(sorted({*times, *extra}))
    frames = [Frame(t, {PORN: found(float(t == odd))}) for t in times]
    assert spans(judge(frames, gap_s=2.0)) == [("review", odd, odd)]


# --- public form ------------------------------------------------------------------------


def test_the_public_segment() -> None:
    (passage,) = judge(film(0, 0.96, 0.99, 0, step=1 / 3)).passages
    assert passage.segment().model_dump(mode="json") == {
        "label": PORN,
        "decision": "block",
        "start_s": 0.333,
        "end_s": 0.667,
        "peak_s": 0.667,
        "score": 0.99,
    }


def test_a_picture_has_no_segments_and_a_film_always_has() -> None:
    seen = Coverage(frames_total=1, frames_scored=1, complete=True)
    picture = Verdict(id="i", status=Status.DONE, decision="pass", coverage=seen, policy="p@1")
    assert "segments" not in picture.to_json()
    assert set(seen.model_dump()) == {
        "frames_total",
        "frames_scored",
        "frames_failed",
        "views_scored",
        "complete",
        "notes",
    }
    calm = judge(film(0, 0))
    segments: list[Segment] = [p.segment() for p in calm.passages]
    told = picture.model_copy(update={"segments": segments, "coverage": calm.coverage}).to_json()
    assert told["segments"] == []
    assert told["coverage"]["unseen"] == []
    assert Verdict.model_validate(told).to_json() == told


def test_no_shipped_policy_blocks_a_film_for_one_frame() -> None:
    for shipped in load_policies().values():
        calm = {rule.label: found(0.0, rule.label, box=True) for rule in shipped.rules}
        odd = {rule.label: found(1.0, rule.label, box=True) for rule in shipped.rules}
        frames = [Frame(float(i), odd if i == 5 else calm) for i in range(10)]
        assert judge(frames, shipped).outcome.decision is Decision.REVIEW
        frames[6] = Frame(6.0, odd)
        assert judge(frames, shipped).outcome.decision is Decision.BLOCK


def test_moments_far_apart_are_neighbours_where_the_plan_says_so() -> None:
    frames = film(0, 0.96, 0.96, 0, step=60.0)
    assert spans(judge(frames, gap_s=60.0)) == [("block", 60, 120)]
