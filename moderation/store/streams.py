"""Streams as callers make, read, change and delete them. Tenants never see each other's.

The URL with its credentials is written here and read by the owner of the lease alone
(`stream_leases`); what this module gives out has none.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    Select,
    delete,
    func,
    insert,
    select,
    update,
)

from moderation.errors import ConflictError, NotFoundError, OverloadedError
from moderation.ids import new_id
from moderation.store.codec import clock, dump_cursor, load_cursor
from moderation.store.engine import Database
from moderation.store.events import append
from moderation.store.live_changes import Told, change_state, lock_stream, tell
from moderation.store.live_records import (
    Desired,
    NewStream,
    StreamChanges,
    StreamCount,
    StreamPage,
    StreamRow,
)
from moderation.store.policies import hold_policies, keep_policy, newest_policy
from moderation.store.tables import (
    alert,
    audit,
    idempotency,
    policy_version,
    stream,
    stream_lease,
)
from moderation.store.upsert import insert_new
from moderation.types import StreamState

MAX_STREAMS = 10_000
"""Streams of one tenant that are to run at the same time."""


def create(
    db: Database, new: NewStream, *, at_most: int = MAX_STREAMS, now: datetime | None = None
) -> StreamRow:
    """Stores a stream that is to be watched from now on. Under an idempotency key that was used
    before, the earlier one is returned.

    Raises ConflictError (idempotency_conflict), OverloadedError when so many streams of the tenant
    are to run already, InputError for values that cannot be stored, StoreError.
    """
    moment = clock(now)
    stream_id = new_id("stream")
    with db.begin() as connection:
        earlier = _take_key(connection, new, stream_id, moment)
        if earlier is None:
            _refuse_when_full(connection, new.tenant, at_most)
            _insert(connection, new, stream_id, moment)
    return get(db, new.tenant, earlier or stream_id, now=moment)


def get(db: Database, tenant: str, stream_id: str, *, now: datetime | None = None) -> StreamRow:
    """One stream. Raises NotFoundError, also for another tenant's, and for a deleted one."""
    query = _STREAMS.where(
        stream.c.id == stream_id, stream.c.tenant == tenant, stream.c.deleted.is_(None)
    )
    with db.connect() as connection:
        row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise _unknown(stream_id)
    return _stream_row(row, clock(now))


def list_streams(
    db: Database,
    tenant: str,
    *,
    state: StreamState | None = None,
    data_id: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
    now: datetime | None = None,
) -> StreamPage:
    """Streams of a tenant, newest first, `limit` to a page (at least 1). Raises InputError
    (cursor_invalid)."""
    query = _STREAMS.where(stream.c.tenant == tenant, stream.c.deleted.is_(None))
    if state is not None:
        query = query.where(stream.c.state == state.value)
    if data_id is not None:
        query = query.where(stream.c.data_id == data_id)
    if cursor is not None:
        query = query.where(stream.c.id < load_cursor(cursor))
    size = max(1, limit)
    query = query.order_by(stream.c.id.desc()).limit(size + 1)
    with db.connect() as connection:
        rows = connection.execute(query).mappings().all()
    moment = clock(now)
    shown = tuple(_stream_row(row, moment) for row in rows[:size])
    more = len(rows) > size
    return StreamPage(streams=shown, next_cursor=dump_cursor(shown[-1].id) if more else None)


def change(
    db: Database,
    tenant: str,
    stream_id: str,
    changes: StreamChanges,
    *,
    at_most: int = MAX_STREAMS,
    now: datetime | None = None,
) -> StreamRow:
    """Changes a stream; its owner takes it over with its next renewal. STOP ends it at once: its
    owner is dismissed, its alerts are closed. RUN starts one that is over anew.

    Raises NotFoundError, OverloadedError as `create`, StoreError.
    """
    moment = clock(now)
    with db.begin() as connection:
        if changes.policy is not None:
            # Before the stream: in this order who publishes has them, too.
            hold_policies(connection, tenant, shared=True)
        held = lock_stream(connection, *_mine(tenant, stream_id))
        if held is None:
            raise _unknown(stream_id)
        values: dict[str, Any] = {"updated": moment, "revision": stream.c.revision + 1}
        if changes.policy is not None:
            chosen = keep_policy if changes.pinned else newest_policy
            values["policy_version"] = chosen(connection, tenant, changes.policy, moment)
            values["pinned"] = changes.pinned
        if changes.interval_ms is not None:
            values["interval_ms"] = changes.interval_ms
        if changes.priority is not None:
            values["priority"] = changes.priority
        if changes.desired is not None:
            values["desired"] = changes.desired.value
        told: list[Told] = []
        if changes.desired is Desired.RUN and held.state.over:
            _refuse_when_full(connection, tenant, at_most)
            connection.execute(
                update(stream_lease).where(stream_lease.c.stream_id == held.id).values(wanted=True)
            )
            told = change_state(connection, held, StreamState.CONNECTING, None, moment)
        elif changes.desired is Desired.STOP and not held.state.over:
            told = change_state(connection, held, StreamState.ENDED, "It was stopped.", moment)
        connection.execute(update(stream).where(stream.c.id == held.id).values(values))
        tell(connection, held, told, moment)
    return get(db, tenant, stream_id, now=moment)


def remove(
    db: Database, tenant: str, stream_id: str, *, actor: str, now: datetime | None = None
) -> None:
    """Ends a stream at once, and lists it no more. Alerts stay until `prune`; the credentials go
    now. Raises NotFoundError, StoreError."""
    moment = clock(now)
    with db.begin() as connection:
        held = lock_stream(connection, *_mine(tenant, stream_id))
        if held is None:
            raise _unknown(stream_id)
        told = (
            []
            if held.state.over
            else change_state(connection, held, StreamState.ENDED, "It was deleted.", moment)
        )
        connection.execute(
            update(stream)
            .where(stream.c.id == held.id)
            .values(
                url=stream.c.shown,
                desired=Desired.STOP.value,
                deleted=moment,
                updated=moment,
            )
        )
        connection.execute(
            insert(audit).values(
                tenant=tenant,
                actor=actor,
                action="stream.delete",
                target=stream_id,
                detail={},
                created=moment,
            )
        )
        tell(connection, held, told, moment)


def counts(db: Database) -> dict[StreamState, int]:
    """How many streams there are in each state, of all tenants. Raises StoreError."""
    query = (
        select(stream.c.state, func.count().label("number"))
        .where(stream.c.deleted.is_(None))
        .group_by(stream.c.state)
    )
    with db.connect() as connection:
        found = {row.state: row.number for row in connection.execute(query)}
    return {state: found.get(state.value, 0) for state in StreamState}


def running(db: Database) -> list[StreamCount]:
    """What was seen of each stream that is not over, of all tenants. Raises StoreError."""
    query = select(
        stream.c.id,
        stream.c.frames_seen.label("seen"),
        stream.c.frames_dropped.label("dropped"),
        stream.c.reconnects,
        stream.c.last_frame,
    ).where(
        stream.c.deleted.is_(None),
        stream.c.state.not_in([state.value for state in StreamState if state.over]),
    )
    with db.connect() as connection:
        return [StreamCount(**row) for row in connection.execute(query).mappings()]


def prune(db: Database, *, before: datetime, limit: int = 100) -> int:
    """Forgets at most `limit` streams that were deleted before that, with their alerts; how many.
    The items of those stay, as all items do. Raises StoreError."""
    old = (
        select(stream.c.id)
        .where(stream.c.deleted.is_not(None), stream.c.deleted < before)
        .order_by(stream.c.deleted)
        .limit(limit)
    )
    with db.connect() as connection:
        ids = connection.execute(old).scalars().all()
    if not ids:
        return 0
    with db.begin() as connection:
        connection.execute(delete(alert).where(alert.c.stream_id.in_(ids)))
        connection.execute(delete(stream_lease).where(stream_lease.c.stream_id.in_(ids)))
        return connection.execute(delete(stream).where(stream.c.id.in_(ids))).rowcount


_STREAMS: Select[Any] = (
    select(
        stream.c.id,
        stream.c.tenant,
        stream.c.shown.label("url"),
        policy_version.c.ref.label("policy"),
        stream.c.interval_ms,
        stream.c.hold_s,
        stream.c.priority,
        stream.c.data_id,
        stream.c.desired,
        stream.c.revision,
        stream.c.state,
        stream.c.detail,
        stream.c.since,
        stream.c.frames_seen,
        stream.c.frames_dropped,
        stream.c.reconnects,
        stream.c.last_frame,
        stream.c.scores,
        stream.c.created,
        stream.c.updated,
        stream_lease.c.owner,
        stream_lease.c.lease_until,
    )
    .join(stream_lease, stream_lease.c.stream_id == stream.c.id)
    .join(policy_version, policy_version.c.id == stream.c.policy_version)
)


def _stream_row(row: RowMapping, now: datetime) -> StreamRow:
    values = dict(row)
    owner, until = values.pop("owner"), values.pop("lease_until")
    values["desired"] = Desired(values["desired"])
    values["state"] = StreamState(values["state"])
    watched = owner is not None and until is not None and until > now
    return StreamRow(**values, watched=watched)


def _mine(tenant: str, stream_id: str) -> tuple[ColumnElement[bool], ...]:
    return (stream.c.id == stream_id, stream.c.tenant == tenant, stream.c.deleted.is_(None))


def _unknown(stream_id: str) -> NotFoundError:
    return NotFoundError(f"There is no stream {stream_id}.")


def _refuse_when_full(connection: Connection, tenant: str, at_most: int) -> None:
    query = (
        select(func.count())
        .select_from(stream_lease)
        .join(stream, stream.c.id == stream_lease.c.stream_id)
        .where(stream.c.tenant == tenant, stream_lease.c.wanted)
    )
    if connection.execute(query).scalar_one() >= at_most:
        raise OverloadedError(f"{at_most} streams are watched already; delete one first.")


def _take_key(connection: Connection, new: NewStream, stream_id: str, now: datetime) -> str | None:
    """The stream that was made under this idempotency key; None when the key is this one's from
    now on, or there is none."""
    if new.idempotency_key is None:
        return None
    # Callers' keys have no blanks: those of items are others.
    key = f"stream {new.idempotency_key}"
    row = {
        "tenant": new.tenant,
        "key": key,
        "request_hash": new.request_hash or "",
        # The table is that of items, which have a job beside them.
        "item_id": stream_id,
        "job_id": stream_id,
        "created": now,
    }
    if insert_new(connection, idempotency, row, ["tenant", "key"]):
        return None
    query = select(idempotency.c.request_hash, stream.c.id).outerjoin(
        stream, stream.c.id == idempotency.c.item_id
    )
    found = connection.execute(
        query.where(idempotency.c.tenant == new.tenant, idempotency.c.key == key)
    ).one()
    if found.id is None or found.request_hash != (new.request_hash or ""):
        raise ConflictError(
            "This Idempotency-Key was used with another request.", code="idempotency_conflict"
        )
    return str(found.id)


def _insert(connection: Connection, new: NewStream, stream_id: str, now: datetime) -> None:
    # Another version may have been published since it was chosen: hosts were resolved meanwhile.
    chosen = keep_policy if new.pinned else newest_policy
    policy_id = chosen(connection, new.tenant, new.policy, now)
    connection.execute(
        insert(stream),
        {
            "id": stream_id,
            "tenant": new.tenant,
            "url": new.url,
            "shown": new.shown,
            "policy_version": policy_id,
            "pinned": new.pinned,
            "interval_ms": new.interval_ms,
            "hold_s": new.hold_s,
            "priority": new.priority,
            "data_id": new.data_id,
            "callback_url": new.callback_url,
            "cut_callback_url": new.cut_callback_url,
            "desired": Desired.RUN.value,
            "revision": 1,
            "state": StreamState.CONNECTING.value,
            "since": now,
            "frames_seen": 0,
            "frames_dropped": 0,
            "reconnects": 0,
            "scores": {},
            "created": now,
            "updated": now,
        },
    )
    connection.execute(
        insert(stream_lease), {"stream_id": stream_id, "wanted": True, "generation": 0}
    )
    append(
        connection,
        tenant=new.tenant,
        kind="stream.state",
        item_id=None,
        stream_id=stream_id,
        data={
            "stream_id": stream_id,
            "data_id": new.data_id,
            "state": StreamState.CONNECTING.value,
            "previous": None,
            "detail": None,
        },
        now=now,
    )
