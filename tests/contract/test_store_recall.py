"""What a decision had answered once it is taken back, on SQLite and PostgreSQL."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest

from moderation.errors import ConflictError
from moderation.store import decisions, events, items, jobs, reviews
from moderation.store.deletion import delete_item
from moderation.store.engine import Database
from moderation.store.records import JobState, NewItem, Submission
from moderation.store.review_records import Action, Choice, ReviewState
from moderation.types import Decision
from tests.contract.list_data import ACTOR, decided, later, submit
from tests.contract.store_data import NOW, new_item, result_for, together

PICTURE = new_item("a")
PASS = Choice(Action.PASS)
BLOCK = Choice(Action.BLOCK, "porn.explicit")
OTHER_POLICY = PICTURE.policy.model_copy(update={"version": 2})


def decide(db: Database, item_id: str, choice: Choice, at: float, who: str = "user_mei") -> str:
    return decisions.decide(db, "default", who, item_id, choice, now=later(at)).decision.id


def undo(db: Database, decision_id: str, at: float, who: str = "user_mei") -> str:
    return decisions.undo(db, "default", who, decision_id, now=later(at))


def in_force(db: Database, told: Submission) -> tuple[str, Decision] | None:
    verdict = items.get_item(db, "default", told.item_id).verdict
    return None if verdict is None else (verdict.decided_by, verdict.decision)


def finish(db: Database, told: Submission, decision: Decision, at: float) -> None:
    claim = jobs.claim(db, told.job_id, "w-1", 30, now=later(at))
    assert claim is not None
    assert jobs.finish(db, claim, result_for(claim, decision), now=later(at))


def test_a_copy_is_looked_at_once_the_decision_is_taken_back(db: Database) -> None:
    first = decided(db, PICTURE, Decision.REVIEW)
    made = decide(db, first.item_id, PASS, 10)
    deadline = later(80)
    copy = submit(db, replace(PICTURE, callback_url="http://127.0.0.1/", deadline=deadline), 20)
    assert in_force(db, copy) == ("person", Decision.PASS)
    last = events.newest(db, "default")

    undo(db, made, 30)
    assert in_force(db, first) == ("policy", Decision.REVIEW)
    assert in_force(db, copy) is None
    assert items.verdict_of_job(db, copy.job_id) is None, "nor does who asks for the job get it"
    row = jobs.get_job(db, "default", copy.job_id)
    assert (row.state, row.attempt) == (JobState.QUEUED, 0)
    told = [(one.kind, one.item_id) for one in events.after(db, "default", last)]
    assert told == [("item.decided", first.item_id), ("item.queued", copy.item_id)]

    # Its task is on its way with the next sweep, and it has as long as it had.
    sweeping = {"republish_after_s": 60, "max_attempts": 3}
    swept = jobs.sweep(db, now=later(31), **sweeping)
    assert [hint.job_id for hint in swept.republish] == [copy.job_id]
    assert jobs.sweep(db, now=later(89), **sweeping).overdue == 0
    finish(db, copy, Decision.BLOCK, 89)
    assert in_force(db, copy) == ("policy", Decision.BLOCK)
    again = items.verdict_of_job(db, copy.job_id)
    assert again is not None
    assert again.decision is Decision.BLOCK


def test_later_uploads_do_not_know_what_was_taken_back(db: Database) -> None:
    first = decided(db, PICTURE, Decision.REVIEW)
    made = decide(db, first.item_id, PASS, 10)
    submit(db, PICTURE, 20)
    undo(db, made, 30)
    assert in_force(db, submit(db, PICTURE, 40)) == ("duplicate", Decision.REVIEW)


def test_a_copy_has_the_decision_that_holds_again(db: Database) -> None:
    first = decided(db, PICTURE, Decision.REVIEW)
    decide(db, first.item_id, PASS, 10)
    early = submit(db, PICTURE, 15)
    second = decide(db, first.item_id, BLOCK, 20)
    copy = submit(db, PICTURE, 25)
    assert in_force(db, copy) == ("person", Decision.BLOCK)
    undo(db, second, 30)
    for one in (first, early, copy, submit(db, PICTURE, 40)):
        assert in_force(db, one) == ("person", Decision.PASS)


def test_copies_of_copies_are_asked_anew_and_what_was_decided_itself_stays(db: Database) -> None:
    first = decided(db, PICTURE, Decision.REVIEW)
    made = decide(db, first.item_id, PASS, 10)
    copies = [submit(db, PICTURE, 12), submit(db, replace(PICTURE, policy=OTHER_POLICY), 13)]
    decide(db, copies[0].item_id, BLOCK, 14, "user_li")
    undo(db, made, 30)
    assert in_force(db, first) == ("policy", Decision.REVIEW)
    # Somebody decided on the same bytes since, who is a person as well.
    assert [in_force(db, one) for one in copies] == [("person", Decision.BLOCK)] * 2


def test_what_was_analysed_meanwhile_is_analysed_again(db: Database) -> None:
    first = decided(db, PICTURE, Decision.REVIEW)
    other = submit(db, replace(PICTURE, policy=OTHER_POLICY), 5)
    assert other.verdict is None
    made = decide(db, first.item_id, PASS, 10)
    finish(db, other, Decision.BLOCK, 12)
    assert in_force(db, other) == ("person", Decision.PASS)
    undo(db, made, 30)
    assert in_force(db, other) is None
    finish(db, other, Decision.BLOCK, 40)
    assert in_force(db, other) == ("policy", Decision.BLOCK)


def test_a_decision_on_a_copy_cannot_bring_back_what_was_taken_back(db: Database) -> None:
    first = decided(db, PICTURE, Decision.REVIEW)
    made = decide(db, first.item_id, PASS, 10)
    copy = submit(db, PICTURE, 12)
    on_copy = decide(db, copy.item_id, BLOCK, 14, "user_li")
    undo(db, made, 30)
    with pytest.raises(ConflictError) as caught:
        undo(db, on_copy, 31, "user_li")
    assert caught.value.code == "undo_superseded"
    assert in_force(db, copy) == ("person", Decision.BLOCK)


def test_what_is_asked_anew_leaves_the_queue_of_people_to_its_verdict(db: Database) -> None:
    first = decided(db, PICTURE, Decision.REVIEW)
    made = decide(db, first.item_id, PASS, 10)
    copy = submit(db, PICTURE, 12)
    undo(db, made, 30)
    with pytest.raises(ConflictError) as caught:
        decide(db, copy.item_id, PASS, 31)
    assert caught.value.code == "undecided"
    finish(db, copy, Decision.REVIEW, 40)
    entry = reviews.get(db, "default", copy.item_id)
    assert entry is not None
    assert entry.state is ReviewState.OPEN
    decide(db, copy.item_id, PASS, 50)
    assert in_force(db, copy) == ("person", Decision.PASS)


def test_the_deleted_item_of_a_decision_takes_nothing_back(db: Database) -> None:
    first = decided(db, PICTURE, Decision.REVIEW)
    decide(db, first.item_id, PASS, 10)
    copy = submit(db, PICTURE, 12)
    delete_item(db, "default", first.item_id, actor=ACTOR, now=later(20))
    assert in_force(db, copy) == ("person", Decision.PASS)
    assert in_force(db, submit(db, PICTURE, 30)) == ("person", Decision.PASS)


def test_scores_handed_over_do_not_stop_the_analysis_of_the_heir(db: Database) -> None:
    first = decided(db, PICTURE, Decision.REVIEW)
    heir = jobs.submit(db, PICTURE, now=later(5))
    assert heir.verdict is None
    delete_item(db, "default", first.item_id, actor=ACTOR, now=later(6))
    finish(db, heir, Decision.BLOCK, 10)
    assert in_force(db, heir) == ("policy", Decision.BLOCK)


def test_no_upload_keeps_what_is_taken_back_at_the_same_time(db: Database) -> None:
    for turn in range(4):
        new = new_item(f"race {turn}")
        first = decided(db, new, Decision.REVIEW)
        made = decide(db, first.item_id, PASS, 10)
        told = together(partial(_upload_or_undo, db, new, made), threads=6)
        copies = [one for one in told if one is not None]
        assert len(copies) == 5
        for one in [*copies, first]:
            assert in_force(db, one) in (
                None,
                ("policy", Decision.REVIEW),
                ("duplicate", Decision.REVIEW),
            )


def _upload_or_undo(db: Database, new: NewItem, made: str, number: int) -> Submission | None:
    if number == 3:
        decisions.undo(db, "default", "user_mei", made, now=NOW + timedelta(seconds=20))
        return None
    return submit(db, new, 20)
