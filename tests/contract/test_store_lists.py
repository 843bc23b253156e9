"""Lists and what is in them, on SQLite and PostgreSQL."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from moderation.errors import ConflictError, InputError, NotFoundError
from moderation.known import BankKind, MatchKind
from moderation.store import (
    jobs,
    list_entries,
    lists,
)
from moderation.store.engine import Database
from moderation.store.list_records import BankChanges, NewEntry
from moderation.store.listed import Lists
from moderation.store.tables import list_entry
from moderation.types import Decision
from tests.contract.list_data import (
    ACTOR,
    LOOK,
    PDQ,
    a_bank,
    acts,
    add,
    bytes_of,
    decided,
    later,
    submit,
    turned,
)
from tests.contract.store_data import NOW, new_item, result_for, together


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


def test_entries_are_found_by_value_of_either_kind(db: Database) -> None:
    bank = a_bank(db)
    add(db, bank, LOOK, NewEntry(MatchKind.SHA256, PDQ), NewEntry(MatchKind.PDQ, turned(PDQ, 1)))
    found = list_entries.entries_of(db, "default", bank.id, value=PDQ).entries
    assert {entry.match for entry in found} == set(MatchKind)
    assert {entry.value for entry in found} == {PDQ}
