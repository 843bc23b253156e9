"""Reading items: history, filters and pages, on SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import timedelta

import pytest

from moderation.errors import InputError, NotFoundError
from moderation.store import items, jobs
from moderation.store.engine import Database
from moderation.store.records import ItemFilter, JobState, Submission
from moderation.types import Decision, Status
from tests.contract.store_data import NOW, new_item, result_for


def decided(db: Database, content: object, decision: Decision, **changes: object) -> Submission:
    sub = jobs.submit(db, new_item(content, **changes), now=NOW)
    claim = jobs.claim(db, sub.job_id, "w1", 15, now=NOW)
    assert claim is not None
    assert jobs.finish(db, claim, result_for(claim, decision), now=NOW)
    return sub


def listed(db: Database, flt: ItemFilter, tenant: str = "default") -> set[str]:
    return {row.id for row in items.list_items(db, tenant, flt, limit=100).items}


def test_pages_show_each_item_once_while_others_arrive(db: Database) -> None:
    made = [jobs.submit(db, new_item(n), now=NOW).item_id for n in range(7)]
    jobs.submit(db, new_item("foreign", tenant="other"), now=NOW)
    shown: list[str] = []
    cursor = None
    for page_number in range(3):
        page = items.list_items(db, "default", ItemFilter(), limit=3, cursor=cursor)
        shown += [row.id for row in page.items]
        jobs.submit(db, new_item(("late", page_number)), now=NOW)
        cursor = page.next_cursor
        assert (cursor is None) == (page_number == 2)
    assert shown == sorted(made, reverse=True)


def test_a_full_last_page_has_no_next(db: Database) -> None:
    for n in range(2):
        jobs.submit(db, new_item(n), now=NOW)
    page = items.list_items(db, "default", ItemFilter(), limit=2)
    assert (len(page.items), page.next_cursor) == (2, None)


@pytest.mark.parametrize("cursor", ["", "x", "é", "aXRlbV8x", "' OR 1=1", "A" * 5000])
def test_a_made_up_cursor_is_an_input_error(db: Database, cursor: str) -> None:
    with pytest.raises(InputError) as error:
        items.list_items(db, "default", ItemFilter(), limit=5, cursor=cursor)
    assert error.value.code == "cursor_invalid"


def test_filters(db: Database) -> None:
    block = decided(db, 1, Decision.BLOCK, data_id="d1", source="a.jpg").item_id
    passed = decided(db, 2, Decision.PASS).item_id
    waiting = jobs.submit(db, new_item(3), now=NOW + timedelta(hours=1)).item_id
    gone = jobs.submit(db, new_item(4), now=NOW)
    jobs.cancel(db, "default", gone.job_id, now=NOW)
    for flt, expected in [
        (ItemFilter(), {block, passed, waiting, gone.item_id}),
        (ItemFilter(decision=Decision.BLOCK), {block}),
        (ItemFilter(decision=Decision.REVIEW), {gone.item_id}),
        (ItemFilter(status=Status.DONE), {block, passed}),
        (ItemFilter(state=JobState.QUEUED), {waiting}),
        (ItemFilter(label="porn.explicit"), {block}),
        (ItemFilter(label="porn.exp%"), set()),
        (ItemFilter(label="failure.cancelled"), {gone.item_id}),
        (ItemFilter(data_id="d1"), {block}),
        (ItemFilter(source="a.jpg", decision=Decision.PASS), set()),
        (ItemFilter(since=NOW + timedelta(minutes=1)), {waiting}),
        (ItemFilter(until=NOW + timedelta(minutes=1)), {block, passed, gone.item_id}),
    ]:
        assert listed(db, flt) == expected, flt
    assert listed(db, ItemFilter(), tenant="other") == set()


def test_an_unknown_item_is_not_found(db: Database) -> None:
    with pytest.raises(NotFoundError):
        items.get_item(db, "default", "item_0")
    assert items.verdict_of_job(db, "job_0") is None
