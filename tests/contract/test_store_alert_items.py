"""Alerts become items that people find, on SQLite and PostgreSQL."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select

from moderation.blobs import BlobStore, open_blobs
from moderation.errors import NotFoundError
from moderation.store import (
    alert_items,
    alerts,
    deletion,
    ending,
    evidence,
    items,
    opening,
    outbox,
    reviews,
    stream_leases,
)
from moderation.store import events as store_events
from moderation.store.engine import Database
from moderation.store.live_records import AlertEvidence, AlertRow, StreamLease
from moderation.store.records import ItemFilter, JobState
from moderation.store.review_records import ReviewState
from moderation.store.tables import item
from moderation.store.tables import verdict as verdicts
from moderation.types import Decision, Status, StreamState
from tests.contract.live_data import (
    LEASE_S,
    SHOWN_URL,
    kept,
    later,
    owned_stream,
    segment,
    take_one,
)
from tests.contract.store_data import together

HOOK = "https://hook.example/"
BOX = (0.1, 0.2, 0.3, 0.4, 0.9)


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return open_blobs(f"file://{tmp_path / 'media'}")


def opened(db: Database, lease: StreamLease, **changes: object) -> AlertRow:
    """An alert of that stream: its segment began half a second after NOW, it opened at 1 s."""
    alerts.record(db, lease, [segment(**changes)], now=later(1))
    (row,) = alerts.of_stream(db, "default", lease.stream_id)
    return row


def made(db: Database, lease: StreamLease, row: AlertRow, found: AlertEvidence) -> str:
    item_id = alert_items.keep(db, lease.stream_id, row.id, found, now=later(3))
    assert item_id is not None
    return item_id


def test_an_alert_is_an_item_with_its_verdict(db: Database) -> None:
    lease = owned_stream(db, data_id="room-7", callback_url=HOOK)
    row = opened(db, lease, boxes=(BOX,), sublabel="pistol")
    item_id = made(db, lease, row, kept(begun=-3.0))
    found = items.get_item(db, "default", item_id)
    assert (found.stream_id, found.source, found.data_id) == (lease.stream_id, SHOWN_URL, "room-7")
    assert (found.state, found.kind, found.duration_s) == (JobState.DONE, "video", 10.0)
    verdict = found.verdict
    assert verdict is not None
    assert (verdict.status, verdict.decision) == (Status.DONE, Decision.REVIEW)
    assert (verdict.decided_by, verdict.policy) == ("policy", row.policy)
    assert (verdict.models, verdict.scores) == (["m@1"], {"porn.explicit": pytest.approx(0.7)})
    (reason,) = verdict.reasons
    assert (reason.category, reason.label, reason.sublabel) == ("porn", "porn.explicit", "pistol")
    assert (reason.score, reason.threshold, reason.boxes) == (0.6, 0.5, [list(BOX)])
    assert row.id in (reason.detail or "")
    assert verdict.segments is not None
    (part,) = verdict.segments
    # The clip began 3 s before NOW; an open alert goes on to its end.
    assert (part.start_s, part.peak_s, part.end_s) == (3.5, 4.0, 10.0)
    assert (part.boxes, part.boxes_s) == ([list(BOX)], 4.0)
    (after,) = alerts.of_stream(db, "default", lease.stream_id)
    assert after.item_id == item_id
    assert after.clip is not None
    assert (after.clip.key, after.clip.begun) == (kept().media.blob_key, later(-3))


def test_it_is_listed_and_told_and_no_callback_comes_twice(db: Database) -> None:
    lease, other = (owned_stream(db, callback_url=HOOK) for _ in range(2))
    item_id = made(db, lease, opened(db, lease), kept())
    made(db, other, opened(db, other), kept(content=b"another"))
    page = items.list_items(db, "default", ItemFilter(stream_id=lease.stream_id))
    assert [one.id for one in page.items] == [item_id]
    review = ItemFilter(decision=Decision.REVIEW, label="porn.explicit")
    assert len(items.list_items(db, "default", review).items) == 2
    told = [row for row in store_events.after(db, "default", 0) if row.kind == "item.decided"]
    assert [row.item_id for row in told][:1] == [item_id]
    kinds = [row.payload["type"] for row in outbox.due_callbacks(db, 100, now=later(60))]
    assert sorted(kinds) == ["alert.opened"] * 2


def test_its_scores_are_shown_over_time(db: Database) -> None:
    lease = owned_stream(db)
    item_id = made(db, lease, opened(db, lease), kept())
    (packed,) = evidence.scores_of(db, evidence.shown(db, "default", item_id))
    assert packed.labels == ("porn.explicit",)
    assert packed.times.tolist() == [3.0, 4.0]
    assert packed.values[:, 0].tolist() == pytest.approx([0.1, 0.7])


def test_a_picture_where_no_clip_could_be_made(db: Database) -> None:
    lease = owned_stream(db)
    media = replace(kept().media, kind="image", duration_s=None)
    item_id = made(db, lease, opened(db, lease), kept(media=media, scores=None))
    verdict = items.get_item(db, "default", item_id).verdict
    assert verdict is not None
    assert (verdict.segments, verdict.scores, verdict.models) == (None, {}, [])
    (row,) = alerts.of_stream(db, "default", lease.stream_id)
    assert (row.item_id, row.clip) == (item_id, None)


def test_it_is_made_once_and_by_the_alert_of_its_stream(db: Database) -> None:
    lease, other = owned_stream(db), owned_stream(db)
    row = opened(db, lease)
    assert alert_items.keep(db, other.stream_id, row.id, kept(), now=later(2)) is None
    item_id = alert_items.keep(db, lease.stream_id, row.id, kept(), now=later(3))
    again = kept(content=b"new")
    assert alert_items.keep(db, lease.stream_id, row.id, again, now=later(4)) == item_id
    with db.connect() as connection:
        assert len(connection.execute(item.select()).all()) == 1


def test_it_is_made_when_the_stream_is_anothers_by_now_or_over(db: Database) -> None:
    lease = owned_stream(db)
    row = opened(db, lease)
    taken = take_one(db, "sup-2", LEASE_S + 1).lease
    assert taken.generation > lease.generation
    first = alert_items.keep(db, lease.stream_id, row.id, kept(), now=later(LEASE_S + 2))
    assert first is not None
    over = owned_stream(db)
    row = opened(db, over)
    assert stream_leases.report_state(db, over, StreamState.ENDED, "over", now=later(3))
    second = alert_items.keep(db, over.stream_id, row.id, kept(content=b"b"), now=later(4))
    assert second is not None
    for item_id in (first, second):
        entry = reviews.get(db, "default", item_id)
        assert entry is not None
        assert entry.state is ReviewState.OPEN


def test_a_graver_alert_makes_its_item_graver(db: Database) -> None:
    lease = owned_stream(db)
    row = opened(db, lease)
    item_id = made(db, lease, row, kept())
    worse = segment("escalated", 4, decision=Decision.BLOCK, score=0.97, threshold=0.9)
    alerts.record(db, lease, [worse], now=later(4))
    alerts.record(db, lease, [segment("closed", 6, score=0.5)], now=later(6))
    first, last = items.history(db, "default", item_id)
    assert (first.decision, last.decision) == (Decision.REVIEW, Decision.BLOCK)
    assert (last.reasons[0].score, last.reasons[0].threshold) == (0.97, 0.9)
    assert last.segments is not None
    assert first.segments is not None
    assert last.segments[0].decision is Decision.BLOCK
    assert last.segments[0].start_s == first.segments[0].start_s
    assert items.get_item(db, "default", item_id).verdict == last


def test_all_that_become_graver_at_once_are_written_before_any_is_told(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who decides an item has locked it, and then waits for the turn of its event: the other way
    about the two would wait for each other."""
    lease = owned_stream(db)
    labels = ("porn.explicit", "violence.weapon")
    opening_ones = [segment("opened", 1, label=label) for label in labels]
    assert alerts.record(db, lease, opening_ones, now=later(2))
    made_of = {row.label: row for row in alerts.of_stream(db, "default", lease.stream_id)}
    held = {
        label: made(db, lease, made_of[label], kept(content=label.encode())) for label in labels
    }
    last = store_events.newest(db, "default")
    worse = [
        segment("escalated", 4, label=label, decision=Decision.BLOCK, score=0.97)
        for label in labels
    ]
    in_force: list[list[str]] = []

    def append(connection: Connection, **event: Any) -> None:
        query = select(item.c.decision).where(item.c.id.in_(held.values()))
        in_force.append(list(connection.execute(query).scalars()))
        store_events.append(connection, **event)

    monkeypatch.setattr(ending, "append", append)
    alerts.record(db, lease, worse, now=later(4))
    assert in_force == [["block", "block"]] * 2
    told = [(one.kind, one.item_id) for one in store_events.after(db, "default", last)]
    decided = {item_id for kind, item_id in told if kind == "item.decided"}
    assert decided == set(held.values())


def test_what_a_person_decided_stays(db: Database) -> None:
    lease = owned_stream(db)
    item_id = made(db, lease, opened(db, lease), kept())
    decided = items.get_item(db, "default", item_id).verdict
    assert decided is not None
    body = decided.model_copy(update={"decided_by": "person", "decision": Decision.PASS})
    with db.begin() as connection:
        connection.execute(
            verdicts.update()
            .where(verdicts.c.item_id == item_id)
            .values(decided_by="person", body=body.model_dump_json())
        )
    worse = segment("escalated", 4, decision=Decision.BLOCK, score=0.97)
    alerts.record(db, lease, [worse], now=later(4))
    assert items.get_item(db, "default", item_id).verdict == body
    (row,) = alerts.of_stream(db, "default", lease.stream_id)
    assert row.decision is Decision.BLOCK


def test_a_deleted_item_takes_its_clip_along(db: Database, blobs: BlobStore) -> None:
    lease = owned_stream(db)
    found = kept()
    blobs.put(found.media.blob_key, b"clip")
    item_id = made(db, lease, opened(db, lease), found)
    gone = deletion.delete_item(db, "default", item_id, actor="key_1", now=later(4))
    (removal,) = gone.removals
    assert deletion.remove(db, blobs, removal, now=later(4))
    assert not blobs.exists(found.media.blob_key)
    (row,) = alerts.of_stream(db, "default", lease.stream_id)
    assert (row.item_id, row.clip) == (None, None)
    # The alert goes on, and has nothing to make graver.
    worse = segment("escalated", 5, decision=Decision.BLOCK, score=0.97)
    assert alerts.record(db, lease, [worse], now=later(5))


def test_bytes_that_were_deleted_just_now_are_asked_for_again(
    db: Database, blobs: BlobStore
) -> None:
    lease, other = owned_stream(db), owned_stream(db)
    found = kept()
    first = made(db, other, opened(db, other), found)
    row = opened(db, lease)
    blobs.put(found.media.blob_key, b"clip")
    gone = deletion.delete_item(db, "default", first, actor="key_1", now=later(3))
    (removal,) = gone.removals
    deletion.remove(db, blobs, removal, now=later(3))
    with pytest.raises(deletion.BytesRemovedError) as raised:
        alert_items.keep(db, lease.stream_id, row.id, found, now=later(4))
    blobs.put(found.media.blob_key, b"clip")
    restored = raised.value.removal
    assert (
        alert_items.keep(db, lease.stream_id, row.id, found, restored=restored, now=later(4))
        is not None
    )


def test_bytes_without_a_row_are_removed_unless_others_have_them(
    db: Database, blobs: BlobStore
) -> None:
    lease = owned_stream(db)
    shared, alone = kept(), kept(content=b"alone")
    made(db, lease, opened(db, lease), shared)
    for found in (shared, alone):
        blobs.put(found.media.blob_key, b"clip")
        opening.discard(db, blobs, "default", found.media, now=later(4))
    assert blobs.exists(shared.media.blob_key)
    assert not blobs.exists(alone.media.blob_key)
    # Once more, while the first removal is still remembered.
    blobs.put(alone.media.blob_key, b"clip")
    opening.discard(db, blobs, "default", alone.media, now=later(4))
    assert not blobs.exists(alone.media.blob_key)
    assert stream_leases.renew(db, [lease], LEASE_S, now=later(5))
    later_on = later(4 + deletion.FORGET_AFTER.total_seconds() + 1)
    assert deletion.sweep_removals(db, blobs, now=later_on) == 1


def test_an_item_may_be_deleted_while_its_alert_becomes_graver(db: Database) -> None:
    lease = owned_stream(db)
    item_id = made(db, lease, opened(db, lease), kept())
    worse = segment("escalated", 4, decision=Decision.BLOCK, score=0.97)

    def both(number: int) -> object:
        if number == 0:
            return deletion.delete_item(db, "default", item_id, actor="key_1", now=later(4))
        return alerts.record(db, lease, [worse], now=later(4))

    deleted, recorded = together(both, threads=2)
    assert deleted
    assert recorded
    (row,) = alerts.of_stream(db, "default", lease.stream_id)
    assert (row.decision, row.item_id) == (Decision.BLOCK, None)
    with pytest.raises(NotFoundError):
        items.get_item(db, "default", item_id)
