"""Lists and what they mean for uploads, on SQLite and PostgreSQL."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from moderation.errors import ConflictError, InputError, NotFoundError
from moderation.known import BankKind, MatchKind
from moderation.store import (
    events,
    followers,
    items,
    jobs,
    list_entries,
    listed,
    lists,
    outbox,
    reviews,
)
from moderation.store.engine import Database
from moderation.store.list_records import BankChanges, BankRow, NewBank, NewEntry
from moderation.store.listed import Lists
from moderation.store.records import Finished, JobState, NewItem, Submission, VideoOptions
from moderation.store.review_records import ReviewState
from moderation.store.tables import audit, job, list_entry
from moderation.types import Decision
from tests.contract.store_data import MODELS, NOW, new_item, result_for, together

ACTOR = "key_1"
PDQ = "ab" * 32
LOOK = NewEntry(MatchKind.PDQ, PDQ, quality=90)


def later(seconds: float) -> Any:
    return NOW + timedelta(seconds=seconds)


def turned(value: str, bits: int) -> str:
    """The hash with so many bits turned over."""
    return f"{int(value, 16) ^ ((1 << bits) - 1):064x}"


def a_bank(db: Database, name: str = "known", tenant: str = "default", **changes: Any) -> BankRow:
    kind = changes.get("kind", BankKind.BLOCK)
    block = kind is BankKind.BLOCK
    values: dict[str, Any] = {
        "kind": kind,
        "decision": Decision.BLOCK if block else Decision.PASS,
        "label": "porn.explicit" if block else None,
    }
    new = NewBank(name, **(values | changes))
    return lists.create_bank(db, tenant, new, actor=ACTOR, now=NOW)


def add(db: Database, bank: BankRow, *entries: NewEntry, **options: Any) -> tuple[str, ...]:
    options = {"actor": ACTOR, "now": NOW} | options
    return list_entries.add_entries(db, bank.tenant, bank.id, entries, **options).ids


def bytes_of(new: NewItem) -> NewEntry:
    return NewEntry(MatchKind.SHA256, new.media.sha256)


def submit(db: Database, new: NewItem, seconds: float = 1) -> Submission:
    return jobs.submit(db, new, dedupe_models=MODELS, now=later(seconds))


def decided(db: Database, new: NewItem, decision: Decision, **changes: Any) -> Submission:
    """As the models would, with the PDQ hash of `result_for`."""
    told = submit(db, new)
    claim = jobs.claim(db, told.job_id, "w-1", 30, now=later(2))
    assert claim is not None
    finished = replace(result_for(claim, decision), pdq_quality=90, **changes)
    assert jobs.finish(db, claim, finished, now=later(3))
    return told


def acts(db: Database) -> list[tuple[str, str]]:
    query = select(audit.c.actor, audit.c.action).order_by(audit.c.id)
    with db.connect() as connection:
        rows = connection.execute(query.where(audit.c.action.startswith("list."))).all()
    return [(row.actor, row.action) for row in rows]


class TestBanks:
    def test_made_changed_and_deleted(self, db: Database) -> None:
        row = a_bank(db, distance=20)
        assert lists.get_bank(db, "default", row.id) == row
        assert lists.bank_named(db, "default", "known") == row
        assert (row.distance, row.enabled, row.entries) == (20, True, 0)
        changes = BankChanges(name="other", decision=Decision.REVIEW, distance=0, enabled=False)
        new = lists.change_bank(db, "default", row.id, changes, actor="key_2", now=later(5))
        assert new == replace(
            row,
            name="other",
            decision=Decision.REVIEW,
            distance=0,
            enabled=False,
            updated=later(5),
        )
        add(db, row, LOOK)
        lists.delete_bank(db, "default", row.id, actor="key_3", now=later(6))
        with pytest.raises(NotFoundError):
            lists.get_bank(db, "default", row.id)
        with db.connect() as connection:
            assert connection.execute(select(list_entry.c.id)).all() == []
        assert acts(db) == [
            ("key_1", "list.create"),
            ("key_2", "list.change"),
            ("key_1", "list.add"),
            ("key_3", "list.delete"),
        ]

    @pytest.mark.parametrize(
        "changes",
        [
            {"name": ""},
            {"name": "x" * 129},
            {"name": "a\0b"},
            {"decision": Decision.PASS},
            {"kind": BankKind.ALLOW, "decision": Decision.BLOCK},
            {"label": None},
            {"label": "no label"},
            {"distance": 32},
            {"distance": -1},
        ],
    )
    def test_what_does_not_fit_is_refused(self, db: Database, changes: dict[str, Any]) -> None:
        with pytest.raises(InputError) as refused:
            a_bank(db, **changes)
        assert refused.value.code == "bank_invalid"
        assert lists.list_banks(db, "default").banks == ()

    def test_a_change_is_checked_like_a_new_one(self, db: Database) -> None:
        row = a_bank(db)
        a_bank(db, "second")
        for changes, code in (
            (BankChanges(decision=Decision.PASS), "bank_invalid"),
            (BankChanges(distance=99), "bank_invalid"),
            (BankChanges(name="second"), "bank_exists"),
        ):
            with pytest.raises(InputError) as refused:
                lists.change_bank(db, "default", row.id, changes, actor=ACTOR)
            assert refused.value.code == code
        assert lists.get_bank(db, "default", row.id) == row

    def test_a_name_is_given_once_in_a_tenant(self, db: Database) -> None:
        def make(_: int) -> bool:
            try:
                a_bank(db)
            except ConflictError as error:
                return error.code != "bank_exists"
            return True

        assert sorted(together(make, 4)) == [False, False, False, True]
        a_bank(db, tenant="other")

    def test_tenants_do_not_see_each_other(self, db: Database) -> None:
        row = a_bank(db)
        (entry,) = add(db, row, LOOK)
        assert lists.list_banks(db, "other").banks == ()
        assert lists.bank_named(db, "other", "known") is None
        for call in (
            lambda: lists.get_bank(db, "other", row.id),
            lambda: lists.change_bank(db, "other", row.id, BankChanges(distance=1), actor=ACTOR),
            lambda: lists.delete_bank(db, "other", row.id, actor=ACTOR),
            lambda: list_entries.entries_of(db, "other", row.id),
            lambda: list_entries.add_entries(db, "other", row.id, [LOOK], actor=ACTOR),
            lambda: list_entries.add_entries(db, "other", row.id, [], actor=ACTOR),
            lambda: list_entries.remove_entry(db, "other", row.id, entry, actor=ACTOR),
        ):
            with pytest.raises(NotFoundError):
                call()
        assert Lists().near(db, "other", PDQ, now=NOW).hits == ()
        assert submit(db, new_item(tenant="other")).verdict is None
        assert lists.get_bank(db, "default", row.id).entries == 1

    def test_pages_hold_every_bank_once_newest_first(self, db: Database) -> None:
        made = [a_bank(db, f"bank {n}").id for n in range(5)]
        seen: list[str] = []
        cursor = None
        while True:
            page = lists.list_banks(db, "default", limit=2, cursor=cursor)
            seen += [row.id for row in page.banks]
            if (cursor := page.next_cursor) is None:
                break
        assert seen == sorted(made, reverse=True)


class TestEntries:
    def test_many_are_added_once_each_and_counted(self, db: Database) -> None:
        row = a_bank(db)
        many = [NewEntry(MatchKind.PDQ, f"{n:064x}", note=f"n{n}") for n in range(4500)]
        added = list_entries.add_entries(db, "default", row.id, many, actor=ACTOR, source="import")
        assert (len(added.ids), added.known) == (4500, 0)
        again = list_entries.add_entries(db, "default", row.id, [*many, LOOK, LOOK], actor=ACTOR)
        assert (len(again.ids), again.known) == (1, 4501)
        assert lists.get_bank(db, "default", row.id).entries == 4501
        seen: list[str] = []
        cursor = None
        while True:
            page = list_entries.entries_of(db, "default", row.id, limit=1000, cursor=cursor)
            seen += [one.value for one in page.entries]
            if (cursor := page.next_cursor) is None:
                break
        assert sorted(seen) == sorted([PDQ, *(one.value for one in many)])
        assert len(Lists().near(db, "default", "0" * 64).hits) == 4500, "all within 13 bits"

    def test_both_kinds_and_filters(self, db: Database) -> None:
        row = a_bank(db)
        same = NewEntry(MatchKind.SHA256, PDQ, note="bytes")
        add(db, row, LOOK, same, source="item_1", expires=later(9))
        (one,) = list_entries.entries_of(db, "default", row.id, match=MatchKind.SHA256).entries
        assert (one.value, one.note, one.source, one.quality) == (PDQ, "bytes", "item_1", None)
        assert (one.created_by, one.created, one.expires) == (ACTOR, NOW, later(9))
        both = list_entries.entries_of(db, "default", row.id, value=PDQ).entries
        assert {entry.match for entry in both} == set(MatchKind)
        assert list_entries.entries_of(db, "default", row.id, value="0" * 64).entries == ()
        told = list_entries.entries_like(db, "default", row.id, [same, LOOK])
        assert [entry.match for entry in told] == [MatchKind.SHA256, MatchKind.PDQ]

    def test_one_that_ends_sooner_is_replaced_and_another_is_not(self, db: Database) -> None:
        row = a_bank(db)
        (first,) = add(db, row, LOOK, expires=later(10))
        assert add(db, row, LOOK, expires=later(5)) == ()
        (second,) = add(db, row, LOOK, expires=later(20))
        (third,) = add(db, row, LOOK)
        assert add(db, row, LOOK, expires=later(99)) == ()
        (left,) = list_entries.entries_of(db, "default", row.id).entries
        assert (left.id, left.expires) == (third, None)
        assert len({first, second, third}) == 3
        assert lists.get_bank(db, "default", row.id).entries == 1

    def test_a_time_that_has_passed_is_refused(self, db: Database) -> None:
        with pytest.raises(InputError) as refused:
            add(db, a_bank(db), LOOK, expires=NOW)
        assert refused.value.code == "expires_invalid"

    def test_removed_once(self, db: Database) -> None:
        row = a_bank(db)
        (entry,) = add(db, row, LOOK)
        other = a_bank(db, "other")
        with pytest.raises(NotFoundError):
            list_entries.remove_entry(db, "default", other.id, entry, actor=ACTOR)
        list_entries.remove_entry(db, "default", row.id, entry, actor="key_9")
        with pytest.raises(NotFoundError):
            list_entries.remove_entry(db, "default", row.id, entry, actor=ACTOR)
        assert lists.get_bank(db, "default", row.id).entries == 0
        assert acts(db)[-1] == ("key_9", "list.remove")

    def test_writers_at_once_lose_nothing(self, db: Database) -> None:
        row = a_bank(db)

        def write(number: int) -> int:
            some = [NewEntry(MatchKind.PDQ, f"{n:064x}") for n in range(number * 5, number * 5 + 9)]
            return len(add(db, row, *some))

        assert sum(together(write, 6)) == 34
        assert lists.get_bank(db, "default", row.id).entries == 34

    @pytest.mark.parametrize(
        ("values", "code"),
        [
            ({"value": "ab" * 31}, "hash_invalid"),
            ({"value": "AB" * 32}, "hash_invalid"),
            ({"quality": 49}, "hash_plain"),
            ({"quality": 101}, "hash_invalid"),
            ({"note": "x" * 1025}, "note_invalid"),
            ({"note": "a\0b"}, "note_invalid"),
        ],
    )
    def test_broken_hashes_are_none(self, values: dict[str, Any], code: str) -> None:
        with pytest.raises(InputError) as refused:
            NewEntry(**({"match": MatchKind.PDQ, "value": PDQ} | values))
        assert refused.value.code == code


class TestOfItems:
    def test_a_picture_gives_its_bytes_and_its_looks(self, db: Database) -> None:
        new = new_item()
        told = decided(db, new, Decision.PASS)
        entries, left_out = list_entries.of_item(db, "default", told.item_id)
        assert entries == [bytes_of(new), LOOK]
        assert left_out is None
        with pytest.raises(NotFoundError):
            list_entries.of_item(db, "other", told.item_id)

    def test_a_plain_one_an_unseen_one_and_a_film_give_their_bytes(self, db: Database) -> None:
        plain = new_item("plain")
        told = submit(db, plain)
        claim = jobs.claim(db, told.job_id, "w-1", 30, now=later(2))
        assert claim is not None
        jobs.finish(db, claim, replace(result_for(claim), pdq_quality=49), now=later(3))
        unseen = new_item("unseen")
        film = replace(unseen, media=replace(new_item("film").media, kind="video"))
        for new, item_id, why in (
            (plain, told.item_id, "too plain"),
            (unseen, submit(db, unseen).item_id, "not decoded"),
            (film, submit(db, film).item_id, "bytes alone"),
        ):
            entries, left_out = list_entries.of_item(db, "default", item_id)
            assert entries == [bytes_of(new)]
            assert left_out is not None
            assert why in left_out


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


@dataclass(frozen=True)
class Frame:
    time_s: float
    pdq: str
    quality: int = 90


class TestNear:
    """One process, whose memory grows from one question to the next."""

    def near(self, memory: Lists, db: Database, pdq: str = PDQ) -> list[tuple[str, int]]:
        hits = memory.near(db, "default", pdq, now=NOW).hits
        return [(hit.entry_id, hit.distance) for hit in hits]

    def test_every_change_counts_at_the_next_question(self, db: Database) -> None:
        memory = Lists()
        assert memory.near(db, "default", PDQ).version == 0
        bank = a_bank(db, distance=20)
        (far,) = add(db, bank, NewEntry(MatchKind.PDQ, turned(PDQ, 20)))
        assert self.near(memory, db) == [(far, 20)]
        (near,) = add(db, bank, NewEntry(MatchKind.PDQ, turned(PDQ, 2)), expires=later(5))
        add(db, bank, NewEntry(MatchKind.PDQ, turned(PDQ, 21)), NewEntry(MatchKind.SHA256, PDQ))
        assert self.near(memory, db) == [(near, 2), (far, 20)]
        later_on = memory.near(db, "default", PDQ, now=later(5)).hits
        assert [hit.entry_id for hit in later_on] == [far]

        def changed(**changes: Any) -> list[tuple[str, int]]:
            lists.change_bank(db, "default", bank.id, BankChanges(**changes), actor=ACTOR)
            return self.near(memory, db)

        assert changed(distance=19) == [(near, 2)]
        assert changed(enabled=False) == []
        assert changed(enabled=True, distance=20) == [(near, 2), (far, 20)]
        list_entries.remove_entry(db, "default", bank.id, near, actor=ACTOR)
        assert self.near(memory, db) == [(far, 20)]
        lists.delete_bank(db, "default", bank.id, actor=ACTOR)
        assert self.near(memory, db) == []
        (entry,) = add(db, a_bank(db, "another"), LOOK)
        assert self.near(memory, db) == [(entry, 0)]

    def test_a_hit_says_what_the_bank_says(self, db: Database) -> None:
        bank = a_bank(db, decision=Decision.REVIEW, label="violence.gore")
        (entry,) = add(db, bank, LOOK)
        (hit,) = Lists().near(db, "default", turned(PDQ, 7)).hits
        assert (hit.bank_id, hit.bank, hit.kind) == (bank.id, "known", BankKind.BLOCK)
        assert (hit.decision, hit.label) == (Decision.REVIEW, "violence.gore")
        assert (hit.entry_id, hit.match, hit.distance) == (entry, MatchKind.PDQ, 7)

    def test_of_a_film_the_nearest_frame_is_told(self, db: Database) -> None:
        bank = a_bank(db, distance=10)
        (entry,) = add(db, bank, LOOK)
        frames = [
            Frame(1.0, turned(PDQ, 9)),
            Frame(2.5, turned(PDQ, 3)),
            Frame(3.0, PDQ, quality=49),
            Frame(4.0, turned(PDQ, 3)),
        ]
        (hit,) = Lists().near_frames(db, "default", frames).hits
        assert (hit.entry_id, hit.distance, hit.time_s) == (entry, 3, 2.5)
        assert Lists().near_frames(db, "default", [Frame(1.0, turned(PDQ, 11))]).hits == ()

    def test_threads_read_it_once_and_right(self, db: Database) -> None:
        memory = Lists()
        bank = a_bank(db)
        added = add(db, bank, *(NewEntry(MatchKind.PDQ, f"{n:064x}") for n in range(300)))
        found = together(lambda _: len(memory.near(db, "default", "0" * 64).hits), 6)
        assert found == [len(added)] * 6

    def test_what_is_renewed_again_and_again_does_not_fill_the_memory(
        self, db: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(listed, "SPARE", 4)
        memory, bank = Lists(), a_bank(db)
        for turn in range(1, 30):
            (entry,) = add(db, bank, LOOK, expires=later(100 + turn))
            assert self.near(memory, db) == [(entry, 0)]
            (kept,) = memory._kept.values()
            assert len(kept.index) <= 8

    def test_what_has_expired_is_not_read(self, db: Database) -> None:
        memory, bank = Lists(), a_bank(db)
        add(db, bank, LOOK, expires=later(5))
        assert memory.near(db, "default", PDQ, now=later(6)).hits == ()
        (kept,) = memory._kept.values()
        assert len(kept.index) == 0
        (entry,) = add(db, bank, LOOK, now=later(7))
        assert [hit.entry_id for hit in memory.near(db, "default", PDQ, now=later(8)).hits] == [
            entry
        ]


def test_entries_are_found_by_value_of_either_kind(db: Database) -> None:
    bank = a_bank(db)
    add(db, bank, LOOK, NewEntry(MatchKind.SHA256, PDQ), NewEntry(MatchKind.PDQ, turned(PDQ, 1)))
    found = list_entries.entries_of(db, "default", bank.id, value=PDQ).entries
    assert {entry.match for entry in found} == set(MatchKind)
    assert {entry.value for entry in found} == {PDQ}
