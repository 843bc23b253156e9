"""Entries of lists that ended long ago go away, on SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select

from moderation.known import MatchKind
from moderation.store import list_entries, list_expiry, lists
from moderation.store.engine import Database
from moderation.store.list_records import NewEntry
from moderation.store.listed import Lists
from moderation.store.tables import audit
from tests.contract.list_data import LOOK, PDQ, a_bank, add, later
from tests.contract.store_data import NOW, together

DAY = 86400.0


def hashes(first: int, count: int) -> list[NewEntry]:
    return [NewEntry(MatchKind.SHA256, f"{n:064x}") for n in range(first, first + count)]


def expired(db: Database) -> list[tuple[str, str, str, int]]:
    query = select(audit).where(audit.c.action == "list.expire").order_by(audit.c.id)
    with db.connect() as connection:
        rows = connection.execute(query).all()
    return [(row.tenant, row.actor, row.target, row.detail["removed"]) for row in rows]


def test_what_ended_more_than_thirty_days_ago_goes(db: Database) -> None:
    bank, other, foreign = a_bank(db), a_bank(db, "other"), a_bank(db, tenant="shop")
    add(db, bank, *hashes(0, 3), expires=later(DAY))
    (kept,) = add(db, bank, LOOK, expires=later(2 * DAY))
    (good,) = add(db, other, LOOK)
    add(db, other, *hashes(0, 2), expires=later(DAY / 2))
    add(db, foreign, LOOK, expires=later(DAY))
    moment = later(31 * DAY) + timedelta(seconds=1)
    assert list_expiry.prune(db, now=moment) == list_expiry.Step(6, None)
    assert list_expiry.prune(db, now=moment) == list_expiry.Step(0, None)
    assert [one.id for one in list_entries.entries_of(db, "default", bank.id).entries] == [kept]
    assert [one.id for one in list_entries.entries_of(db, "default", other.id).entries] == [good]
    assert [lists.get_bank(db, "default", one.id).entries for one in (bank, other)] == [1, 1]
    assert lists.get_bank(db, "shop", foreign.id).entries == 0
    assert sorted(expired(db)) == sorted(
        [
            ("default", "system", bank.id, 3),
            ("default", "system", other.id, 2),
            ("shop", "system", foreign.id, 1),
        ]
    )
    (hit,) = Lists().near(db, "default", PDQ, now=moment).hits
    assert hit.entry_id == good


@pytest.mark.parametrize(("seconds", "removed"), [(-1, 0), (0, 0), (1, 1)])
def test_not_before_that(db: Database, seconds: float, removed: int) -> None:
    add(db, a_bank(db), LOOK, expires=later(DAY))
    moment = later(31 * DAY + seconds)
    assert list_expiry.prune(db, now=moment).removed == removed


def test_a_step_looks_at_no_more_than_it_may(db: Database) -> None:
    bank = a_bank(db)
    for first in range(0, 10, 2):
        add(db, bank, *hashes(first, 1))
        add(db, bank, *hashes(first + 1, 1), expires=later(DAY))
    steps = []
    after: str | None = ""
    while after is not None:
        step = list_expiry.prune(db, after=after, limit=4, now=later(40 * DAY))
        steps.append(step.removed)
        after = step.after
    assert steps == [2, 2, 1]
    assert lists.get_bank(db, "default", bank.id).entries == 5


def test_it_stops_where_nothing_can_have_ended_so_long_ago(db: Database) -> None:
    bank = a_bank(db)
    add(db, bank, *hashes(0, 1), expires=later(DAY))
    add(db, bank, *hashes(1, 4), now=later(35 * DAY))
    step = list_expiry.prune(db, limit=2, now=later(40 * DAY))
    assert step == list_expiry.Step(1, None)


def test_many_at_once_count_each_entry_once(db: Database) -> None:
    bank = a_bank(db)
    add(db, bank, *hashes(0, 50), expires=later(DAY))
    add(db, bank, LOOK)
    found = together(lambda _: list_expiry.prune(db, now=later(40 * DAY)).removed, 4)
    assert sum(found) == 50
    assert lists.get_bank(db, "default", bank.id).entries == 1
    assert sum(removed for *_, removed in expired(db)) == 50


def test_what_the_memory_still_holds_matches_nothing(db: Database) -> None:
    bank, memory = a_bank(db), Lists()
    add(db, bank, LOOK, expires=later(DAY))
    assert len(memory.near(db, "default", PDQ, now=NOW).hits) == 1
    list_expiry.prune(db, now=later(40 * DAY))
    assert memory.near(db, "default", PDQ, now=later(40 * DAY)).hits == ()
    (entry,) = add(db, bank, LOOK, now=later(40 * DAY))
    (hit,) = memory.near(db, "default", PDQ, now=later(41 * DAY)).hits
    assert hit.entry_id == entry
