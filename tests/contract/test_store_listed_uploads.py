"""What lists mean for uploads, on SQLite and PostgreSQL."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import update

from moderation.known import BankKind, MatchKind
from moderation.store import (
    events,
    followers,
    items,
    jobs,
    list_entries,
    lists,
    outbox,
    reviews,
)
from moderation.store.engine import Database
from moderation.store.list_records import BankChanges, NewEntry
from moderation.store.listed import Lists
from moderation.store.records import Finished, JobState, VideoOptions
from moderation.store.review_records import ReviewState
from moderation.store.tables import job
from moderation.types import Decision
from tests.contract.list_data import (
    ACTOR,
    LOOK,
    PDQ,
    a_bank,
    add,
    bytes_of,
    decided,
    later,
    submit,
    turned,
)
from tests.contract.store_data import new_item, result_for


class TestUploads:
    def test_listed_bytes_are_decided_at_once(self, db: Database) -> None:
        new = new_item(callback_url="http://receiver.example/", data_id="d-1")
        (entry,) = add(db, a_bank(db, decision=Decision.REVIEW), bytes_of(new))
        told = submit(db, new)
        assert told.state is JobState.DONE
        assert told.verdict is not None
        assert (told.verdict.decision, told.verdict.decided_by) == (Decision.REVIEW, "list")
        (reason,) = told.verdict.reasons
        assert (reason.label, reason.decision) == ("porn.explicit", Decision.REVIEW)
        assert reason.detail == f"the same bytes are on the block list 'known' ({entry})"
        row = items.get_item(db, "default", told.item_id)
        assert (row.verdict, row.state) == (told.verdict, JobState.DONE)
        assert jobs.claim(db, told.job_id, "w-1", 30) is None
        (callback,) = outbox.due_callbacks(db, now=later(2))
        assert callback.payload["data"] == told.verdict.to_json()
        assert [event.kind for event in events.after(db, "default", 0)] == ["item.decided"]

    def test_an_idempotency_key_answers_what_it_did(self, db: Database) -> None:
        new = new_item(idempotency_key="k", request_hash="h")
        bank = a_bank(db)
        (entry,) = add(db, bank, bytes_of(new))
        first = submit(db, new)
        list_entries.remove_entry(db, "default", bank.id, entry, actor=ACTOR)
        again = submit(db, new)
        assert (again.item_id, again.verdict, again.replayed) == (
            first.item_id,
            first.verdict,
            True,
        )

    def test_a_newer_entry_wins_over_the_models_and_gone_it_leaves_them(self, db: Database) -> None:
        new = new_item()
        decided(db, new, Decision.PASS)
        bank = a_bank(db)
        (entry,) = add(db, bank, bytes_of(new))
        listed = submit(db, new, 5).verdict
        assert listed is not None
        assert (listed.decision, listed.decided_by) == (Decision.BLOCK, "list")
        list_entries.remove_entry(db, "default", bank.id, entry, actor=ACTOR)
        models = submit(db, new, 6).verdict
        assert models is not None
        assert (models.decision, models.decided_by) == (Decision.PASS, "duplicate")

    def test_without_an_entry_a_listed_verdict_is_no_duplicate(self, db: Database) -> None:
        new = new_item()
        bank = a_bank(db)
        add(db, bank, bytes_of(new), expires=later(10))
        assert submit(db, new, 9).verdict is not None
        assert submit(db, new, 10).verdict is None, "it has expired"
        add(db, bank, bytes_of(new), now=later(11))
        assert submit(db, new, 12).verdict is not None
        off = BankChanges(enabled=False)
        lists.change_bank(db, "default", bank.id, off, actor=ACTOR)
        assert submit(db, new, 13).verdict is None

    def test_an_allow_list_passes_what_the_models_block(self, db: Database) -> None:
        new = new_item()
        decided(db, new, Decision.BLOCK)
        add(db, a_bank(db, "fine", kind=BankKind.ALLOW), bytes_of(new))
        told = submit(db, new, 5).verdict
        assert told is not None
        assert (told.decision, told.reasons, told.decided_by) == (Decision.PASS, [], "list")
        add(db, a_bank(db), bytes_of(new))
        told = submit(db, new, 6).verdict
        assert told is not None
        assert told.decision is Decision.BLOCK

    def test_a_list_that_asks_a_person_puts_it_into_the_queue(self, db: Database) -> None:
        new = new_item()
        add(db, a_bank(db, decision=Decision.REVIEW), bytes_of(new))
        told = submit(db, new)
        row = reviews.get(db, "default", told.item_id)
        assert row is not None
        assert (row.state, row.label) == (ReviewState.OPEN, "porn.explicit")

    @pytest.mark.parametrize(("bits", "again"), [(31, True), (32, False)])
    def test_a_picture_that_looks_like_a_newer_entry_is_looked_at_again(
        self, db: Database, bits: int, again: bool
    ) -> None:
        new = new_item()
        decided(db, new, Decision.PASS)
        add(db, a_bank(db), NewEntry(MatchKind.PDQ, turned(PDQ, bits)))
        assert (submit(db, new, 5).verdict is None) is again

    def test_a_changed_bank_is_asked_again_and_one_that_was_asked_is_not(
        self, db: Database
    ) -> None:
        new = new_item()
        bank = a_bank(db, distance=3)
        add(db, bank, NewEntry(MatchKind.PDQ, turned(PDQ, 8)))
        version = Lists().near(db, "default", PDQ).version
        decided(db, new, Decision.PASS, lists=version)
        assert submit(db, new, 5).verdict is not None
        lists.change_bank(db, "default", bank.id, BankChanges(distance=8), actor=ACTOR)
        assert submit(db, new, 6).verdict is None

    def test_plain_pictures_are_never_asked(self, db: Database) -> None:
        new = new_item()
        told = submit(db, new)
        claim = jobs.claim(db, told.job_id, "w-1", 30, now=later(2))
        assert claim is not None
        jobs.finish(db, claim, replace(result_for(claim), pdq_quality=49), now=later(3))
        add(db, a_bank(db), LOOK)
        assert submit(db, new, 5).verdict is not None

    def test_very_many_new_entries_are_left_to_the_worker(self, db: Database) -> None:
        new = new_item()
        decided(db, new, Decision.PASS)
        bank = a_bank(db)
        far = [NewEntry(MatchKind.PDQ, f"{n:064x}") for n in range(2001)]
        add(db, bank, *far[:2000])
        assert submit(db, new, 5).verdict is not None
        add(db, bank, far[2000])
        decided(db, new_item("other"), Decision.PASS)
        with db.begin() as connection:
            connection.execute(update(job).values(lists=0))
        assert submit(db, new, 6).verdict is None


class TestFollowers:
    def test_a_follower_takes_no_verdict_from_before_the_lists_changed(self, db: Database) -> None:
        film = replace(new_item("film").media, kind="video")
        new = new_item(media=film, video=VideoOptions())
        bank = a_bank(db)
        leader = submit(db, new)
        first = submit(db, new, 2)
        assert first.follows
        claim = jobs.claim(db, leader.job_id, "w-1", 30, now=later(3))
        assert claim is not None
        seen = Lists().near_frames(db, "default", ()).version
        add(db, bank, LOOK)
        second = submit(db, new, 4)
        assert second.follows
        finished = Finished(result_for(claim).verdict, lists=seen)
        assert jobs.finish(db, claim, finished, now=later(5))
        followers.settle(db, 9, later(6))
        assert items.verdict_of_job(db, first.job_id) is not None
        assert items.verdict_of_job(db, second.job_id) is None
        assert jobs.claim(db, second.job_id, "w-1", 30, now=later(7)) is not None

    def test_what_a_list_decided_is_passed_on_as_such(self, db: Database) -> None:
        film = replace(new_item("film").media, kind="video")
        new = new_item(media=film, video=VideoOptions())
        leader = submit(db, new)
        follower = submit(db, new, 2)
        claim = jobs.claim(db, leader.job_id, "w-1", 30, now=later(3))
        assert claim is not None
        verdict = result_for(claim, Decision.BLOCK, decided_by="list").verdict
        assert jobs.finish(db, claim, Finished(verdict, lists=0), now=later(4))
        followers.settle(db, 9, later(5))
        told = items.verdict_of_job(db, follower.job_id)
        assert told is not None
        assert told.decided_by == "list"
        assert submit(db, new, 6).verdict is None, "it is no duplicate"
