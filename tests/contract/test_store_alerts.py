"""One alert a segment: opened, escalated, closed, on SQLite and PostgreSQL."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import insert

from moderation.errors import NotFoundError, StoreError
from moderation.store import alerts, events, outbox, stream_leases, streams
from moderation.store.engine import Database
from moderation.store.live_records import AlertState, StreamLease
from moderation.store.tables import alert
from moderation.types import Decision, StreamState
from tests.contract.live_data import LEASE_S, later, owned_stream, segment, take_one
from tests.contract.store_data import POLICY

HOOK = "https://hook.example/"
CUT = "https://cut.example/"


def told(db: Database) -> list[tuple[str, str]]:
    rows = events.after(db, "default", 0)
    return [(row.kind, row.data["decision"]) for row in rows if row.kind.startswith("alert.")]


def record(db: Database, lease: StreamLease, *changes: Any, at: float = 1.0) -> list[str]:
    recorded = alerts.record(db, lease, changes, now=later(at))
    assert recorded is not None
    return [one.kind for one in recorded]


def sent(db: Database) -> list[tuple[str, str]]:
    rows = outbox.due_callbacks(db, 99, now=later(1000))
    return sorted((str(row.target), row.payload["type"]) for row in rows)


def test_a_segment_has_one_alert_with_its_times(db: Database) -> None:
    lease = owned_stream(db, data_id="room-7")
    box = (0.1, 0.2, 0.3, 0.4, 0.9)
    assert record(db, lease, segment(at=2, start=1)) == ["alert.opened"]
    block = segment(
        "escalated", 4, start=1, decision=Decision.BLOCK, score=0.95, threshold=0.9, boxes=(box,)
    )
    assert record(db, lease, block, at=4) == ["alert.escalated"]
    assert record(db, lease, segment("closed", 8, start=1, score=0.7), at=9) == ["alert.closed"]

    (row,) = alerts.of_stream(db, "default", lease.stream_id)
    assert (row.state, row.decision, row.policy) == (AlertState.CLOSED, Decision.BLOCK, POLICY.ref)
    assert (row.score, row.threshold, row.boxes) == (0.95, 0.9, (box,))
    assert (row.start, row.captured, row.end) == (later(1), later(2), later(8))
    assert told(db) == [
        ("alert.opened", "review"),
        ("alert.escalated", "block"),
        ("alert.closed", "block"),
    ]
    last = events.after(db, "default", 0, stream_id=lease.stream_id)[-1]
    assert last.data == {
        "alert_id": row.id,
        "stream_id": lease.stream_id,
        "data_id": "room-7",
        "label": "porn.explicit",
        "sublabel": None,
        "score": 0.95,
        "threshold": 0.9,
        "decision": "block",
        "policy": "default@1",
        "start": "2026-03-01T12:00:01.000Z",
        "captured": "2026-03-01T12:00:02.000Z",
        "end": "2026-03-01T12:00:08.000Z",
        "boxes": [list(box)],
        "item_id": None,
    }


def test_a_new_owner_that_opens_the_segment_again_opens_nothing(db: Database) -> None:
    lease = owned_stream(db)
    record(db, lease, segment(at=2, start=1))
    lease = take_one(db, "sup-2", LEASE_S + 1).lease
    assert record(db, lease, segment(at=12, start=11), at=12) == []
    assert record(db, lease, segment("closed", 15, start=11), at=15) == ["alert.closed"]
    assert told(db) == [("alert.opened", "review"), ("alert.closed", "review")]


def test_nor_does_one_that_remembers_less_than_was_written(db: Database) -> None:
    lease = owned_stream(db)
    record(db, lease, segment(at=2, start=1))
    record(db, lease, segment("closed", 5, start=1), at=6)
    again = segment(at=4, start=3)
    assert record(db, lease, again, segment("closed", 5, start=3), at=7) == []
    assert record(db, lease, segment(at=7, start=5.1), at=8) == ["alert.opened"]
    assert len(alerts.of_stream(db, "default", lease.stream_id)) == 2


def test_a_segment_that_blocks_after_all_is_told_although_it_was_closed(db: Database) -> None:
    lease = owned_stream(db)
    record(db, lease, segment(at=2, start=1), segment("closed", 5, start=1))
    block = segment("escalated", 5, start=3, decision=Decision.BLOCK, score=0.95)
    assert record(db, lease, block, at=6) == ["alert.escalated"]
    (row,) = alerts.of_stream(db, "default", lease.stream_id)
    assert (row.decision, row.state) == (Decision.BLOCK, AlertState.CLOSED)


def test_an_escalation_without_an_alert_opens_one(db: Database) -> None:
    lease = owned_stream(db)
    assert record(db, lease, segment("escalated", decision=Decision.BLOCK)) == ["alert.opened"]


def test_a_close_without_an_alert_is_nothing(db: Database) -> None:
    lease = owned_stream(db)
    assert record(db, lease, segment("closed")) == []
    assert alerts.of_stream(db, "default", lease.stream_id) == []


def test_labels_and_streams_have_alerts_of_their_own(db: Database) -> None:
    one = owned_stream(db)
    other = owned_stream(db)
    for lease in (one, other):
        opened = record(db, lease, segment(), segment(label="violence.gore"))
        assert opened == ["alert.opened", "alert.opened"]
    open_ones = alerts.of_stream(db, "default", one.stream_id, state=AlertState.OPEN)
    assert sorted(row.label for row in open_ones) == ["porn.explicit", "violence.gore"]
    assert alerts.of_stream(db, "other", one.stream_id) == []


def test_the_database_itself_refuses_a_second_open_alert(db: Database) -> None:
    lease = owned_stream(db)
    record(db, lease, segment())
    with db.connect() as connection:
        row = dict(connection.execute(alert.select()).mappings().one())

    def twice() -> None:
        with db.begin() as connection:
            connection.execute(insert(alert), row | {"id": "alert_2"})

    with pytest.raises(StoreError):
        twice()
    record(db, lease, segment("closed", 3), at=3)
    twice()


@pytest.mark.parametrize("mode", ["live", "shadow"])
def test_the_cut_is_called_once_an_alert_and_only_by_a_live_policy(db: Database, mode: str) -> None:
    policy = POLICY.model_copy(update={"mode": mode})
    lease = owned_stream(db, policy=policy, callback_url=HOOK, cut_callback_url=CUT)
    block = segment("escalated", 3, decision=Decision.BLOCK, score=0.95)
    record(db, lease, segment())
    record(db, lease, block, at=3)
    record(db, lease, block, segment("closed", 5, decision=Decision.BLOCK), at=5)
    cuts = [(CUT, "stream.cut")] if mode == "live" else []
    assert sent(db) == [
        *cuts,
        (HOOK, "alert.closed"),
        (HOOK, "alert.escalated"),
        (HOOK, "alert.opened"),
    ]


def test_without_addresses_nobody_is_called(db: Database) -> None:
    lease = owned_stream(db)
    record(db, lease, segment(decision=Decision.BLOCK), segment("closed", 5))
    assert sent(db) == []
    assert told(db) == [("alert.opened", "block"), ("alert.closed", "block")]


def test_a_stream_that_is_over_has_no_open_alert(db: Database) -> None:
    lease = owned_stream(db, callback_url=HOOK)
    record(db, lease, segment(at=2, start=1))
    assert stream_leases.report_state(db, lease, StreamState.ENDED, "It ended.", now=later(7))
    (row,) = alerts.of_stream(db, "default", lease.stream_id)
    assert (row.state, row.end) == (AlertState.CLOSED, later(2))
    kinds = [event.kind for event in events.after(db, "default", 0)]
    assert kinds == ["stream.state", "alert.opened", "alert.closed", "stream.state"]
    assert sent(db) == [(HOOK, "alert.closed"), (HOOK, "alert.opened"), (HOOK, "stream.state")]
    assert streams.get(db, "default", lease.stream_id).state is StreamState.ENDED


def test_an_alert_is_found_below_its_stream_alone(db: Database) -> None:
    lease, other = owned_stream(db), owned_stream(db)
    record(db, lease, segment())
    (row,) = alerts.of_stream(db, "default", lease.stream_id)
    assert alerts.get(db, "default", lease.stream_id, row.id) == row
    for tenant, stream_id in (("default", other.stream_id), ("elsewhere", lease.stream_id)):
        with pytest.raises(NotFoundError):
            alerts.get(db, tenant, stream_id, row.id)
    streams.remove(db, "default", lease.stream_id, actor="key_1", now=later(3))
    with pytest.raises(NotFoundError):
        alerts.get(db, "default", lease.stream_id, row.id)
