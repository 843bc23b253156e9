"""How much is old and how much waits for the sweeper, on SQLite and PostgreSQL."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from moderation.store import (
    deletion,
    events,
    jobs,
    list_entries,
    outbox,
    retained,
    streams,
    uploads,
)
from moderation.store.engine import Database
from moderation.store.retained import Retained
from moderation.types import Decision
from tests.contract.list_data import LOOK, a_bank, decided, later
from tests.contract.live_data import make
from tests.contract.store_data import new_item

NONE = Retained(0, 0, 0, 0, 0, 0, 0, 0, 0)
DAY = timedelta(days=1)


def now() -> datetime:
    return datetime.now(UTC)


def of(db: Database, before: datetime, tenant: str = "default", **options: Any) -> Retained:
    return retained.retained(db, tenant, before=before, **options)


def test_nothing_is_nothing(db: Database) -> None:
    assert of(db, now()) == NONE


def test_items_and_media_are_old_by_when_they_came(db: Database) -> None:
    start = now()
    for content in (1, 1, 2):
        jobs.submit(db, new_item(content))
    jobs.submit(db, new_item(3, tenant="other"))
    found = of(db, now() + DAY)
    assert (found.items, found.media) == (3, 2)
    assert (of(db, start - DAY).items, of(db, start - DAY).media) == (0, 0)


def test_what_waits_to_be_swept_is_counted_by_tenant(db: Database) -> None:
    start = now()
    jobs.submit(db, new_item(1, idempotency_key="k", request_hash="h"))
    with db.begin() as connection:
        for _ in range(2):
            events.append(connection, tenant="default", kind="x", item_id=None, data={}, now=start)
    uploads.create(db, "default", length=9, metadata={}, expires=start + DAY, room=100)
    bank = a_bank(db)
    ends = start + DAY
    list_entries.add_entries(db, "default", bank.id, [LOOK], actor="key_1", expires=ends)
    (stream,) = make(db)
    streams.remove(db, "default", stream.id, actor="key_1", now=start)
    gone = jobs.submit(db, new_item(2))
    deletion.delete_item(db, "default", gone.item_id, actor="key_1")
    found = of(db, start + DAY, now=start + 2 * DAY)
    assert found.events >= 2
    assert replace(found, items=0, media=0, events=0) == replace(
        NONE, keys=1, streams=1, uploads=1, files=1
    )
    assert replace(of(db, start - DAY, now=start), events=0) == replace(NONE, files=1)
    assert of(db, start + DAY, now=start + 32 * DAY).entries == 1
    assert of(db, start + DAY, "other", now=start + 32 * DAY) == NONE


def test_callbacks_that_are_through_are_counted(db: Database) -> None:
    for content in range(3):
        new = new_item(content, callback_url="http://receiver.example/")
        decided(db, new, Decision.PASS)
    first, second, _ = outbox.due_callbacks(db, now=later(60))
    outbox.mark_sent(db, first.id, now=later(60))
    outbox.mark_dead(db, second.id, "gone")
    assert of(db, later(0) + DAY).callbacks == 2
    assert of(db, later(0) - DAY).callbacks == 0


def test_it_counts_no_further_than_it_has_to(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retained, "MOST", 3)
    for content in range(9):
        jobs.submit(db, new_item(content))
    assert of(db, now() + DAY).items == 4
