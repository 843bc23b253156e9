"""The queue of people and their decisions, on SQLite and PostgreSQL."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from moderation.errors import ConflictError, NotFoundError
from moderation.store import decisions, deletion, events, items, jobs, outbox, reviews
from moderation.store.decisions import UNDO, decide, judged, undo
from moderation.store.engine import Database
from moderation.store.records import JobState
from moderation.store.review_records import Action, Choice, ReviewFilter, ReviewState
from moderation.store.reviews import CLAIM, claim, claim_next, queue, release
from moderation.store.submit import submit
from moderation.store.tables import audit, review, review_decision
from moderation.types import Coverage, Decision, Reason, Segment, Status, Verdict
from tests.contract.store_data import MODELS, NOW, new_item, result_for, together

MEI, TOM = "user_mei", "user_tom"
ALL = ReviewFilter()
PASS, BLOCK = Choice(Action.PASS), Choice(Action.BLOCK, "porn.explicit", "seen")
HOOK = "https://hook.example/"


def at(seconds: float) -> Any:
    return NOW + timedelta(seconds=seconds)


def make(
    db: Database, content: object = "a", decision: Decision = Decision.REVIEW, **changes: Any
) -> str:
    """An item that the models have judged; a second later than the one before."""
    seconds = changes.pop("seconds", 0.0)
    score = changes.pop("score", 0.6)
    found = submit(db, new_item(content, **changes), now=at(seconds))
    claimed = jobs.claim(db, found.job_id, owner="w", lease_s=30.0, now=at(seconds))
    assert claimed is not None
    done = result_for(claimed, decision)
    reasons = [one.model_copy(update={"score": score}) for one in done.verdict.reasons]
    done = replace(done, verdict=done.verdict.model_copy(update={"reasons": reasons}))
    assert jobs.finish(db, claimed, done, now=at(seconds))
    return found.item_id


def waiting(db: Database, flt: ReviewFilter = ALL, **options: Any) -> list[str]:
    return [row.item_id for row in queue(db, "default", flt, **options).rows]


def verdict(db: Database, item_id: str) -> Verdict:
    found = items.get_item(db, "default", item_id).verdict
    assert found is not None
    return found


def test_only_what_needs_a_person_waits(db: Database) -> None:
    wanted = make(db, "a")
    for number, decision in enumerate((Decision.PASS, Decision.BLOCK)):
        make(db, number, decision)
    assert waiting(db) == [wanted]
    row = reviews.get(db, "default", wanted)
    assert row is not None
    assert (row.state, row.label, row.score) == (ReviewState.OPEN, "porn.explicit", 0.6)
    assert queue(db, "elsewhere", ALL).rows == ()
    assert reviews.get(db, "elsewhere", wanted) is None


def test_the_queue_is_in_the_order_of_priority_then_age_less_risk(db: Database) -> None:
    hour = 3600
    young_and_sure = make(db, 1, score=1.0, seconds=3 * hour)
    old = make(db, 2, score=0.5, seconds=0)
    young = make(db, 3, score=0.5, seconds=3 * hour)
    urgent = make(db, 4, priority=5, score=0.1, seconds=9 * hour)
    assert waiting(db) == [urgent, young_and_sure, old, young]


def test_pages_follow_each_other(db: Database) -> None:
    made = [make(db, number, seconds=number) for number in range(7)]
    seen: list[str] = []
    after = None
    while True:
        page = queue(db, "default", ALL, limit=3, after=after)
        seen += [row.item_id for row in page.rows]
        after = page.next_after
        if after is None:
            break
    assert seen == made
    with pytest.raises(NotFoundError):
        queue(db, "default", ALL, after="item_unknown")


def test_filters_are_all_met(db: Database) -> None:
    one = make(db, "a", source="feed", data_id="4711", score=0.6)
    two = make(db, "b", source="chat", score=0.8, seconds=60)
    sha256 = items.get_item(db, "default", two).sha256
    policy = verdict(db, one).policy
    for flt, found in (
        (ReviewFilter(label="porn.explicit"), [two, one]),
        (ReviewFilter(label="violence.gore"), []),
        (ReviewFilter(source="feed"), [one]),
        (ReviewFilter(data_id="4711"), [one]),
        (ReviewFilter(sha256=sha256), [two]),
        (ReviewFilter(kind="image"), [two, one]),
        (ReviewFilter(kind="video"), []),
        (ReviewFilter(policy=policy, source="chat"), [two]),
        (ReviewFilter(policy="other@1"), []),
        (ReviewFilter(scores=(0.7, 1.0)), [two]),
        (ReviewFilter(since=at(30)), [two]),
        (ReviewFilter(until=at(30)), [one]),
        (ReviewFilter(stream_id="stream_1"), []),
        (ReviewFilter(escalated=False), [two, one]),
        (ReviewFilter(state=None), [two, one]),
        (ReviewFilter(state=ReviewState.DECIDED), []),
    ):
        assert waiting(db, flt) == found, flt


def test_two_people_never_get_the_same(db: Database) -> None:
    made = {make(db, number, seconds=number) for number in range(8)}
    got = together(lambda n: claim_next(db, "default", f"user_{n}", ALL, now=at(100)), threads=8)
    assert {row.item_id for row in got if row is not None} == made
    assert claim_next(db, "default", "late", ALL, now=at(100)) is None


def test_a_claim_excludes_others_until_it_runs_out(db: Database) -> None:
    item_id = make(db)
    first = claim_next(db, "default", MEI, ALL, now=NOW)
    assert first is not None
    assert first.claim_until == NOW + CLAIM
    with pytest.raises(ConflictError) as told:
        claim(db, "default", TOM, item_id, now=at(1))
    assert told.value.code == "claimed"
    with pytest.raises(ConflictError):
        decide(db, "default", TOM, item_id, PASS, now=at(1))
    assert claim(db, "default", MEI, item_id, now=at(60)).claim_until == at(60) + CLAIM
    late = at(60) + CLAIM
    assert claim(db, "default", TOM, item_id, now=late).claimed_by == TOM
    assert claim(db, "default", MEI, item_id, take_over=True, now=late).claimed_by == MEI
    assert not release(db, "default", TOM, item_id)
    assert release(db, "default", MEI, item_id)
    again = claim_next(db, "default", TOM, ALL, now=late)
    assert again is not None


def test_what_is_skipped_comes_again_in_the_end(db: Database) -> None:
    made = [make(db, number, seconds=number) for number in range(3)]
    seen: list[str] = []
    after = None
    for _ in range(4):
        row = claim_next(db, "default", MEI, ALL, after=after, now=at(100))
        assert row is not None
        seen.append(row.item_id)
        release(db, "default", MEI, row.item_id)
        after = row.item_id
    assert seen == [*made, made[0]]


def test_what_does_not_wait_cannot_be_claimed(db: Database) -> None:
    passed = make(db, "p", Decision.PASS)
    for item_id in (passed, "item_unknown"):
        with pytest.raises(NotFoundError):
            claim(db, "default", MEI, item_id, now=NOW)
    with pytest.raises(NotFoundError):
        claim(db, "elsewhere", MEI, make(db), now=NOW)


def test_counts_tell_how_much_there_is(db: Database) -> None:
    made = [make(db, number, seconds=number) for number in range(3)]
    claim(db, "default", MEI, made[0], now=NOW)
    decide(db, "default", MEI, made[1], Choice(Action.ESCALATE), now=at(9))
    found = reviews.counts(db, "default", MEI, now=at(10))
    assert (found.open, found.escalated, found.mine) == (3, 1, 1)
    assert found.by_label == {"porn.explicit": 3}
    assert found.oldest == NOW
    assert reviews.counts(db, "elsewhere", MEI).open == 0


def test_a_decision_is_a_verdict_an_event_and_a_callback(db: Database) -> None:
    item_id = make(db, callback_url=HOOK)
    claim(db, "default", MEI, item_id, now=at(5))
    choice = replace(BLOCK, labels={"porn.explicit": True})
    done = decide(db, "default", MEI, item_id, choice, now=at(12))
    assert (done.verdict, done.undo_until) == (Decision.BLOCK, at(12) + UNDO)
    assert (done.decision.seconds, done.decision.labels) == (7.0, {"porn.explicit": "confirmed"})
    assert done.decision.note == "seen"
    found = verdict(db, item_id)
    assert (found.decision, found.decided_by) == (Decision.BLOCK, "person")
    assert "seen" not in found.model_dump_json(), "what one reviewer wrote is not for the uploader"
    assert waiting(db) == []
    row = reviews.get(db, "default", item_id)
    assert row is not None
    assert (row.state, row.claimed_by) == (ReviewState.DECIDED, None)
    last = events.after(db, "default", 0)[-1]
    assert (last.kind, last.data["decided_by"]) == ("item.decided", "person")
    sent = [row.payload["data"]["decided_by"] for row in outbox.due_callbacks(db, 9, now=at(60))]
    assert sorted(sent) == ["person", "policy"]
    with db.connect() as connection:
        acts = connection.execute(select(audit.c.actor, audit.c.action)).all()
    assert (MEI, "review.block") in [tuple(one) for one in acts]
    assert [one.id for one in decisions.of_item(db, "default", item_id)] == [done.decision.id]


def test_it_outranks_the_models_for_the_same_bytes(db: Database) -> None:
    item_id = make(db, "same")
    decide(db, "default", MEI, item_id, PASS, now=at(1))
    for models in (MODELS, None):
        again = submit(db, new_item("same"), dedupe_models=models, now=at(2))
        assert (again.state, again.verdict is not None) == (JobState.DONE, True)
        assert again.verdict is not None
        assert (again.verdict.decision, again.verdict.decided_by) == (Decision.PASS, "person")
    other = submit(db, new_item("same", tenant="other"), now=at(2))
    assert other.verdict is None
    assert waiting(db) == []


def test_a_decision_is_taken_back_within_a_minute(db: Database) -> None:
    item_id = make(db, callback_url=HOOK)
    before = verdict(db, item_id)
    done = decide(db, "default", MEI, item_id, BLOCK, now=at(10))
    assert undo(db, "default", MEI, done.decision.id, now=at(40)) == item_id
    assert verdict(db, item_id) == before
    assert len(items.history(db, "default", item_id)) == 3
    row = reviews.get(db, "default", item_id)
    assert row is not None
    assert (row.state, row.claimed_by) == (ReviewState.OPEN, MEI)
    sent = [row.payload["data"]["decision"] for row in outbox.due_callbacks(db, 9, now=at(60))]
    assert sorted(sent) == ["block", "review", "review"]
    (kept,) = decisions.of_item(db, "default", item_id)
    assert kept.undone == at(40)
    with pytest.raises(ConflictError) as told:
        undo(db, "default", MEI, done.decision.id, now=at(41))
    assert told.value.code == "undo_done"
    assert submit(db, new_item("a"), now=at(50)).verdict is None


def test_undoing_has_its_limits(db: Database) -> None:
    item_id = make(db)
    done = decide(db, "default", MEI, item_id, BLOCK, now=NOW)
    with pytest.raises(NotFoundError):
        undo(db, "default", TOM, done.decision.id, now=at(1))
    with pytest.raises(ConflictError) as told:
        undo(db, "default", MEI, done.decision.id, now=NOW + UNDO + timedelta(seconds=1))
    assert told.value.code == "undo_late"
    newer = decide(db, "default", TOM, item_id, PASS, now=at(2))
    with pytest.raises(ConflictError) as told:
        undo(db, "default", MEI, done.decision.id, now=at(3))
    assert told.value.code == "undo_superseded"
    undo(db, "default", TOM, newer.decision.id, now=at(3))
    assert verdict(db, item_id).decision is Decision.BLOCK
    row = reviews.get(db, "default", item_id)
    assert row is not None
    assert row.state is ReviewState.DECIDED


def test_what_is_escalated_comes_first_and_keeps_its_verdict(db: Database) -> None:
    first, second = make(db, 1, seconds=0), make(db, 2, seconds=1)
    done = decide(db, "default", MEI, second, Choice(Action.ESCALATE, note="help"), now=at(5))
    assert done.verdict is Decision.REVIEW
    assert waiting(db) == [second, first]
    assert waiting(db, ReviewFilter(escalated=True)) == [second]
    assert len(items.history(db, "default", second)) == 1
    undo(db, "default", MEI, done.decision.id, now=at(6))
    assert waiting(db) == [first, second]


def test_an_escalation_is_not_taken_back_behind_the_back_of_who_dealt_with_it(
    db: Database,
) -> None:
    item_id = make(db)
    mine = decide(db, "default", MEI, item_id, Choice(Action.ESCALATE), now=at(1))
    claim(db, "default", TOM, item_id, now=at(2))
    with pytest.raises(ConflictError) as told:
        undo(db, "default", MEI, mine.decision.id, now=at(3))
    assert told.value.code == "claimed"
    done = decide(db, "default", TOM, item_id, BLOCK, now=at(4))
    with pytest.raises(ConflictError) as told:
        undo(db, "default", MEI, mine.decision.id, now=at(5))
    assert told.value.code == "undo_superseded"
    row = reviews.get(db, "default", item_id)
    assert row is not None
    assert (row.state, row.claimed_by) == (ReviewState.DECIDED, None)
    # Taken back, the block leaves the escalation as it was: at the top.
    undo(db, "default", TOM, done.decision.id, now=at(6))
    row = reviews.get(db, "default", item_id)
    assert row is not None
    assert (row.state, row.escalated) == (ReviewState.OPEN, True)
    other = make(db, 2, seconds=-9)
    assert waiting(db) == [item_id, other]


def test_of_two_escalations_the_later_is_taken_back_alone(db: Database) -> None:
    item_id = make(db, "p", Decision.PASS)
    first = decide(db, "default", MEI, item_id, Choice(Action.ESCALATE), now=at(1))
    second = decide(db, "default", TOM, item_id, Choice(Action.ESCALATE), now=at(2))
    with pytest.raises(ConflictError) as told:
        undo(db, "default", MEI, first.decision.id, now=at(3))
    assert told.value.code == "undo_superseded"
    undo(db, "default", TOM, second.decision.id, now=at(4))
    assert waiting(db, ReviewFilter(escalated=True)) == [item_id]


def test_what_did_not_wait_may_be_decided_too(db: Database) -> None:
    item_id = make(db, "p", Decision.PASS)
    done = decide(db, "default", MEI, item_id, BLOCK, now=at(1))
    assert verdict(db, item_id).reasons[0].label == "porn.explicit"
    undo(db, "default", MEI, done.decision.id, now=at(2))
    assert verdict(db, item_id).decision is Decision.PASS
    row = reviews.get(db, "default", item_id)
    assert row is not None
    assert row.state is ReviewState.SETTLED
    assert waiting(db) == []


def test_what_is_not_analysed_yet_cannot_be_decided(db: Database) -> None:
    found = submit(db, new_item("running"), now=NOW)
    with pytest.raises(ConflictError) as told:
        decide(db, "default", MEI, found.item_id, PASS, now=NOW)
    assert told.value.code == "undecided"
    with pytest.raises(NotFoundError):
        decide(db, "elsewhere", MEI, make(db), PASS, now=NOW)


def test_of_two_at_once_one_decides(db: Database) -> None:
    item_id = make(db)
    claim(db, "default", "user_0", item_id, now=NOW)

    def one(number: int) -> bool:
        try:
            decide(db, "default", f"user_{number}", item_id, PASS, now=at(1))
        except ConflictError:
            return False
        return True

    outcomes = together(one, threads=4)
    # Whoever comes after the claimant finds it unclaimed, and decides it anew.
    assert outcomes[0]
    assert len(decisions.of_item(db, "default", item_id)) == sum(outcomes)


def test_a_deleted_item_leaves_nothing(db: Database) -> None:
    item_id = make(db)
    decide(db, "default", MEI, item_id, PASS, now=at(1))
    deletion.delete_item(db, "default", item_id, actor="key_1", now=at(2))
    with db.connect() as connection:
        for table in (review, review_decision):
            assert connection.execute(select(table)).all() == []


LABELS = ("porn.explicit", "violence.gore", "violence.weapon")


@given(
    st.lists(st.sampled_from(LABELS), unique=True),
    st.dictionaries(st.sampled_from(LABELS), st.booleans()),
    st.sampled_from([None, *LABELS, "smoking.smoking"]),
    st.sampled_from([Action.PASS, Action.BLOCK]),
)
def test_a_persons_verdict_says_what_the_person_said(
    named: list[str], labels: dict[str, bool], label: str | None, action: Action
) -> None:
    reasons = [
        Reason(category=one.partition(".")[0], label=one, score=0.6, decision=Decision.REVIEW)
        for one in named
    ]
    segments = [
        Segment(label=one, decision=Decision.REVIEW, start_s=0, end_s=1, peak_s=0, score=0.6)
        for one in named
    ]
    before = Verdict(
        id="item_1",
        status=Status.DONE,
        decision=Decision.REVIEW,
        reasons=reasons,
        scores=dict.fromkeys(LABELS, 0.6),
        segments=segments,
        coverage=Coverage(frames_total=1, frames_scored=1, complete=True),
        policy="default@1",
    )
    after = judged(before, Choice(action, label, None, labels))
    assert (after.decided_by, after.decision.value) == ("person", action.value)
    assert (after.scores, after.policy, after.coverage) == (
        before.scores,
        before.policy,
        before.coverage,
    )
    told = {reason.label for reason in after.reasons}
    assert all(reason.decision is Decision.BLOCK for reason in after.reasons)
    if action is Action.PASS:
        assert told == set()
        assert after.segments == []
        return
    rejected = {one for one, right in labels.items() if not right} - {label}
    assert told == (set(named) - rejected) | ({label} if label else set())
    assert {one.label for one in after.segments or []} == set(named) - rejected
