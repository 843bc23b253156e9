"""Streams as callers make, read, change and delete them, on SQLite and PostgreSQL."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from sqlalchemy import select

from moderation.errors import ConflictError, InputError, NotFoundError, OverloadedError
from moderation.store import (
    alert_items,
    alerts,
    events,
    items,
    outbox,
    retention,
    stream_leases,
    streams,
)
from moderation.store.engine import Database
from moderation.store.live_records import (
    AlertState,
    Desired,
    Progress,
    StreamChanges,
    StreamCount,
)
from moderation.store.tables import alert, audit, stream, stream_lease
from moderation.types import StreamState
from tests.contract.live_data import (
    LEASE_S,
    SECRET_URL,
    SHOWN_URL,
    kept,
    later,
    make,
    new_stream,
    owned_stream,
    segment,
    take_one,
)
from tests.contract.store_data import NOW, POLICY, together

OTHER = POLICY.model_copy(update={"version": 2})


def kinds(db: Database, tenant: str = "default") -> list[tuple[str, str]]:
    return [
        (row.kind, row.data.get("state") or row.data["label"])
        for row in events.after(db, tenant, 0)
    ]


def test_a_new_stream_waits_for_its_supervisor_and_says_so(db: Database) -> None:
    row = streams.create(db, new_stream(data_id="room-7", priority=3), now=NOW)
    assert (row.state, row.desired, row.watched) == (StreamState.CONNECTING, Desired.RUN, False)
    assert (row.policy, row.interval_ms, row.hold_s, row.priority) == ("default@1", 1000, 10.0, 3)
    assert streams.get(db, "default", row.id) == row
    (event,) = events.after(db, "default", 0, stream_id=row.id)
    assert (event.kind, event.stream_id, event.item_id) == ("stream.state", row.id, None)
    assert event.data == {
        "stream_id": row.id,
        "data_id": "room-7",
        "state": "connecting",
        "previous": None,
        "detail": None,
    }


def test_credentials_reach_the_owner_alone(db: Database) -> None:
    new = new_stream(
        callback_url="https://u:hush-1@h.example/", cut_callback_url="https://x/hush-2"
    )
    row = streams.create(db, new, now=NOW)
    owned = take_one(db)
    assert (owned.url, owned.shown) == (SECRET_URL, SHOWN_URL)
    stream_leases.report_state(db, owned.lease, StreamState.STALLED, now=later(1))
    told = [*events.after(db, "default", 0), *outbox.due_callbacks(db, 9, now=later(2))]
    page = streams.list_streams(db, "default")
    for shown in (repr(new), repr(row), str(asdict(row)), repr(owned), str(page)):
        assert "pass-4711" not in shown
        assert "hush" not in shown
    assert "pass-4711" not in str(told)


def test_tenants_do_not_see_each_other(db: Database) -> None:
    (row,) = make(db)
    assert streams.list_streams(db, "other").streams == ()
    for call in (
        lambda: streams.get(db, "other", row.id),
        lambda: streams.change(db, "other", row.id, StreamChanges(interval_ms=500)),
        lambda: streams.remove(db, "other", row.id, actor="key_1"),
    ):
        with pytest.raises(NotFoundError):
            call()
    assert events.after(db, "other", 0, stream_id=row.id) == []
    assert streams.get(db, "default", row.id).interval_ms == 1000


def test_pages_hold_every_stream_once_newest_first(db: Database) -> None:
    made = [row.id for row in make(db, 7)]
    seen: list[str] = []
    cursor = None
    while True:
        page = streams.list_streams(db, "default", limit=3, cursor=cursor)
        seen += [row.id for row in page.streams]
        if (cursor := page.next_cursor) is None:
            break
    assert seen == sorted(made, reverse=True)
    with pytest.raises(InputError):
        streams.list_streams(db, "default", cursor="nonsense")


def test_lists_are_filtered_by_state_and_data_id(db: Database) -> None:
    lease = owned_stream(db, data_id="a")
    make(db, data_id="b")
    stream_leases.report_state(db, lease, StreamState.LIVE, now=later(1))

    def data_ids(**flt: object) -> list[str | None]:
        return [x.data_id for x in streams.list_streams(db, "default", **flt).streams]  # type: ignore[arg-type]

    assert data_ids(state=StreamState.LIVE) == ["a"]
    assert data_ids(state=StreamState.CONNECTING) == ["b"]
    assert data_ids(data_id="b") == ["b"]
    assert data_ids(data_id="c") == []


def test_what_was_seen_is_added_up(db: Database) -> None:
    lease = owned_stream(db)
    for n in (1, 2):
        seen = Progress(
            frames_seen=3,
            frames_dropped=1,
            reconnects=n,
            last_frame=later(n),
            scores={"a.b": 0.12345},
        )
        assert stream_leases.report_progress(db, {lease: seen}, now=later(n)) == frozenset()
    stream_leases.report_progress(db, {lease: Progress(frames_seen=1)}, now=later(3))
    row = streams.get(db, "default", lease.stream_id, now=later(4))
    assert (row.frames_seen, row.frames_dropped, row.reconnects) == (7, 2, 3)
    assert (row.last_frame, row.scores, row.watched) == (later(2), {"a.b": 0.1235}, True)
    assert not streams.get(db, "default", lease.stream_id, now=later(LEASE_S)).watched


def test_changes_reach_the_owner_by_their_revision(db: Database) -> None:
    lease = owned_stream(db)
    assert stream_leases.renew(db, [lease], LEASE_S, now=later(1)) == {lease.stream_id: 1}
    changes = StreamChanges(policy=OTHER, interval_ms=500, priority=9)
    row = streams.change(db, "default", lease.stream_id, changes, now=later(2))
    assert (row.policy, row.interval_ms, row.priority, row.revision) == ("default@2", 500, 9, 2)
    assert stream_leases.renew(db, [lease], LEASE_S, now=later(3)) == {lease.stream_id: 2}
    (owned,) = stream_leases.reread(db, [lease])
    assert (owned.lease, owned.policy, owned.interval_ms, owned.revision) == (lease, OTHER, 500, 2)
    assert kinds(db) == [("stream.state", "connecting")]


def test_deleting_ends_it_at_once_for_everybody(db: Database) -> None:
    lease = owned_stream(db, callback_url="https://h.example/")
    alerts.record(db, lease, [segment()], now=later(1))
    streams.remove(db, "default", lease.stream_id, actor="key_1", now=later(2))

    with pytest.raises(NotFoundError):
        streams.get(db, "default", lease.stream_id)
    with pytest.raises(NotFoundError):
        streams.remove(db, "default", lease.stream_id, actor="key_1")
    assert streams.list_streams(db, "default").streams == ()
    assert stream_leases.renew(db, [lease], LEASE_S, now=later(3)) == {}
    assert stream_leases.reread(db, [lease]) == []
    assert alerts.record(db, lease, [segment(start=2.5)], now=later(3)) is None
    assert stream_leases.take(db, "sup-2", 5, LEASE_S, now=later(100)) == []
    assert kinds(db) == [
        ("stream.state", "connecting"),
        ("alert.opened", "porn.explicit"),
        ("alert.closed", "porn.explicit"),
        ("stream.state", "ended"),
    ]
    types = [row.payload["type"] for row in outbox.due_callbacks(db, 9, now=later(4))]
    assert sorted(types) == ["alert.closed", "alert.opened", "stream.state"]
    with db.connect() as connection:
        assert connection.execute(select(stream.c.url)).scalar_one() == SHOWN_URL
        note = connection.execute(select(audit.c.actor, audit.c.action, audit.c.target)).one()
    assert tuple(note) == ("key_1", "stream.delete", lease.stream_id)


def test_a_stream_is_stopped_and_started_anew(db: Database) -> None:
    lease = owned_stream(db)

    def want(desired: Desired, at: float) -> StreamState:
        changes = StreamChanges(desired=desired)
        return streams.change(db, "default", lease.stream_id, changes, now=later(at)).state

    assert want(Desired.RUN, 1) is StreamState.CONNECTING
    assert want(Desired.STOP, 2) is StreamState.ENDED
    assert want(Desired.STOP, 3) is StreamState.ENDED
    assert not stream_leases.report_state(db, lease, StreamState.LIVE, now=later(4))
    assert stream_leases.take(db, "sup-1", 1, LEASE_S, now=later(4)) == []
    assert want(Desired.RUN, 5) is StreamState.CONNECTING
    again = take_one(db, at=6).lease
    assert again.generation > lease.generation
    assert [state for _, state in kinds(db)] == ["connecting", "ended", "connecting"]


def test_a_stream_that_failed_is_started_anew(db: Database) -> None:
    lease = owned_stream(db)
    assert stream_leases.report_state(db, lease, StreamState.AUTH_FAILED, "401", now=later(1))
    row = streams.get(db, "default", lease.stream_id)
    assert (row.state, row.detail, row.desired) == (StreamState.AUTH_FAILED, "401", Desired.RUN)
    assert stream_leases.take(db, "sup-1", 1, LEASE_S, now=later(2)) == []
    streams.change(db, "default", row.id, StreamChanges(desired=Desired.RUN), now=later(3))
    assert take_one(db, at=4).state is StreamState.CONNECTING


def test_more_streams_than_allowed_are_refused(db: Database) -> None:
    (first, _) = make(db, 2)
    with pytest.raises(OverloadedError):
        streams.create(db, new_stream(), at_most=2, now=NOW)
    streams.create(db, new_stream(tenant="other"), at_most=2, now=NOW)
    streams.change(db, "default", first.id, StreamChanges(desired=Desired.STOP), now=NOW)
    streams.create(db, new_stream(), at_most=2, now=NOW)
    run = StreamChanges(desired=Desired.RUN)
    with pytest.raises(OverloadedError):
        streams.change(db, "default", first.id, run, at_most=2, now=NOW)
    assert streams.get(db, "default", first.id).desired is Desired.STOP


def test_a_repeated_request_makes_no_second_stream(db: Database) -> None:
    new = new_stream(idempotency_key="k", request_hash="h")
    made = together(lambda _n: streams.create(db, new, now=NOW).id, 4)
    assert len(set(made)) == 1
    assert len(streams.list_streams(db, "default").streams) == 1
    with pytest.raises(ConflictError) as error:
        streams.create(db, new_stream(idempotency_key="k", request_hash="other"))
    assert error.value.code == "idempotency_conflict"
    assert streams.create(db, new_stream(tenant="t", idempotency_key="k")).id != made[0]


def test_states_are_counted(db: Database) -> None:
    lease = owned_stream(db)
    make(db)
    stream_leases.report_state(db, lease, StreamState.LIVE, now=later(1))
    found = streams.counts(db)
    assert (found[StreamState.LIVE], found[StreamState.CONNECTING]) == (1, 1)
    assert set(found) == set(StreamState)
    streams.remove(db, "default", lease.stream_id, actor="key_1")
    assert sum(streams.counts(db).values()) == 1


def test_what_was_seen_of_each_stream_that_runs(db: Database) -> None:
    over, lease, gone = (owned_stream(db) for _ in range(3))
    stream_leases.report_state(db, over, StreamState.FAILED, now=later(1))
    streams.remove(db, "default", gone.stream_id, actor="key_1", now=later(1))
    seen = Progress(frames_seen=9, frames_dropped=2, reconnects=1, last_frame=later(1))
    assert stream_leases.report_progress(db, {lease: seen}, now=later(2)) == set()
    assert streams.running(db) == [StreamCount(lease.stream_id, 9, 2, 1, later(1))]


def test_a_deleted_stream_is_forgotten_in_its_time_and_its_items_are_not(db: Database) -> None:
    lease = owned_stream(db)
    (left,) = make(db)
    alerts.record(db, lease, [segment()], now=later(1))
    (opened,) = alerts.of_stream(db, "default", lease.stream_id)
    item_id = alert_items.keep(db, lease.stream_id, opened.id, kept(), now=later(2))
    assert item_id is not None
    streams.remove(db, "default", lease.stream_id, actor="key_1", now=later(10))
    retention.prune(db, before=later(10))
    (closed,) = alerts.of_stream(db, "default", lease.stream_id)
    assert closed.state is AlertState.CLOSED
    retention.prune(db, before=later(11))
    with db.connect() as connection:
        ids = connection.execute(select(stream.c.id)).scalars().all()
        assert ids == connection.execute(select(stream_lease.c.stream_id)).scalars().all()
        assert connection.execute(select(alert)).all() == []
    assert ids == [left.id]
    assert items.get_item(db, "default", item_id).stream_id == lease.stream_id
