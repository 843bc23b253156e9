"""Who watches a stream: take, renew, give back, take over after the lease ran out.

(stream, owner, generation) names a lease. The generation counts up whenever a stream gets an owner
or loses it by force, so a supervisor that was paused, cut off or slow writes nothing once another
may have its stream: each of its writes locks the lease's row and looks first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, Select, and_, or_, select, tuple_, update

from moderation.store.codec import clock, load_policy
from moderation.store.engine import Database
from moderation.store.live_changes import change_state, lock_stream, owned_by, tell
from moderation.store.live_records import Census, OwnedStream, Progress, StreamLease
from moderation.store.tables import policy_version, stream, stream_lease
from moderation.types import StreamState

SILENT = "Its supervisor went silent."


def take(
    db: Database, owner: str, limit: int, lease_s: float, *, now: datetime | None = None
) -> list[OwnedStream]:
    """Takes at most `limit` streams that nobody holds, or whose lease ran out, for `lease_s`
    seconds; the most urgent first. Raises StoreError."""
    moment = clock(now)
    query = (
        select(stream_lease.c.stream_id)
        .join(stream, stream.c.id == stream_lease.c.stream_id)
        .where(_free(moment))
        .order_by(stream.c.priority.desc(), stream_lease.c.stream_id)
        .limit(max(0, limit))
    )
    # Mostly there is none: then no write is made.
    with db.connect() as connection:
        if limit <= 0 or connection.execute(query.limit(1)).first() is None:
            return []
    with db.begin() as connection:
        found = query.with_for_update(of=stream_lease, skip_locked=True)
        ids = list(connection.execute(found).scalars())
        if not ids:
            return []
        connection.execute(
            update(stream_lease)
            .where(stream_lease.c.stream_id.in_(ids))
            .values(
                owner=owner,
                generation=stream_lease.c.generation + 1,
                lease_until=moment + timedelta(seconds=lease_s),
            )
        )
        rows = connection.execute(_OWNED.where(stream_lease.c.stream_id.in_(ids))).mappings()
        return [_owned(row) for row in rows]


def renew(
    db: Database, leases: Collection[StreamLease], lease_s: float, *, now: datetime | None = None
) -> dict[str, int]:
    """Prolongs these leases. Stream -> revision of its settings, of those that still hold; the
    others are lost: end what runs for them, write nothing more. Raises StoreError.

    One that ran out is prolonged as long as nobody else has taken it: the owner is still the
    only one.
    """
    if not leases:
        return {}
    moment = clock(now)
    keys = _keys(leases)
    with db.begin() as connection:
        query = (
            select(stream_lease.c.stream_id, stream.c.revision)
            .join(stream, stream.c.id == stream_lease.c.stream_id)
            .where(keys, stream_lease.c.wanted)
            # In one order, so that two such updates cannot block each other.
            .order_by(stream_lease.c.stream_id)
            .with_for_update(of=stream_lease)
        )
        held = {row.stream_id: row.revision for row in connection.execute(query)}
        connection.execute(
            update(stream_lease)
            .where(keys, stream_lease.c.stream_id.in_(sorted(held)))
            .values(lease_until=moment + timedelta(seconds=lease_s))
        )
    return held


def reread(db: Database, leases: Collection[StreamLease]) -> list[OwnedStream]:
    """The settings of streams as they are now, of leases that still hold. Raises StoreError."""
    if not leases:
        return []
    with db.connect() as connection:
        rows = connection.execute(_OWNED.where(_keys(leases), stream_lease.c.wanted)).mappings()
        return [_owned(row) for row in rows]


def release(db: Database, leases: Collection[StreamLease]) -> int:
    """Gives streams back, for others to take at once; how many. Raises StoreError."""
    if not leases:
        return 0
    return _let_go(db, _keys(leases))


def release_owner(db: Database, owner: str) -> int:
    """Gives back all that a supervisor holds that is known to be dead; how many. Raises
    StoreError."""
    return _let_go(db, stream_lease.c.owner == owner)


def report_state(
    db: Database,
    lease: StreamLease,
    state: StreamState,
    detail: str | None = None,
    *,
    now: datetime | None = None,
) -> bool:
    """The owner tells the stream's state; an event tells of every change. False, and nothing
    written, when the lease does not hold. A stream that is over has no owner any more, and its
    alerts are closed. `detail`: a sentence without credentials. Raises StoreError."""
    moment = clock(now)
    with db.begin() as connection:
        held = lock_stream(connection, *owned_by(lease, moment))
        if held is None:
            return False
        told = change_state(connection, held, state, detail, moment)
        tell(connection, held, told, moment)
        return True


def report_progress(
    db: Database, reports: Mapping[StreamLease, Progress], *, now: datetime | None = None
) -> frozenset[StreamLease]:
    """Writes what was seen of many streams in one transaction; the leases of those for which it
    was refused. Raises StoreError."""
    moment = clock(now)
    refused: set[StreamLease] = set()
    if not reports:
        return frozenset()
    with db.begin() as connection:
        for lease in sorted(reports, key=lambda one: one.stream_id):
            # Not the lease alone: whoever locks both does it in one order.
            if lock_stream(connection, *owned_by(lease, moment)) is None:
                refused.add(lease)
                continue
            seen = reports[lease]
            values: dict[str, object] = {
                "frames_seen": stream.c.frames_seen + seen.frames_seen,
                "frames_dropped": stream.c.frames_dropped + seen.frames_dropped,
                "reconnects": stream.c.reconnects + seen.reconnects,
            }
            if seen.last_frame is not None:
                values["last_frame"] = seen.last_frame
            if seen.scores is not None:
                values["scores"] = {name: round(score, 4) for name, score in seen.scores.items()}
            connection.execute(update(stream).where(stream.c.id == lease.stream_id).values(values))
    return frozenset(refused)


def census(db: Database, *, now: datetime | None = None) -> Census:
    """How the streams that are to run are spread. Raises StoreError."""
    moment = clock(now)
    query = select(stream_lease.c.owner, stream_lease.c.lease_until).where(stream_lease.c.wanted)
    with db.connect() as connection:
        rows = connection.execute(query).all()
    held = Counter(
        row.owner
        for row in rows
        if row.owner is not None and row.lease_until is not None and row.lease_until >= moment
    )
    return Census(wanted=len(rows), free=len(rows) - held.total(), held=dict(held))


def sweep_unwatched(db: Database, limit: int = 200, *, now: datetime | None = None) -> list[str]:
    """Streams whose owner let its lease run out: they wait for another, and an event says so;
    their ids. Any number of sweepers may run at once. Raises StoreError."""
    moment = clock(now)
    lost = and_(
        stream_lease.c.wanted,
        stream_lease.c.owner.is_not(None),
        stream_lease.c.lease_until < moment,
    )
    query = select(stream_lease.c.stream_id).where(lost).order_by(stream_lease.c.stream_id)
    with db.connect() as connection:
        ids = list(connection.execute(query.limit(limit)).scalars())
    swept = []
    for stream_id in ids:
        with db.begin() as connection:
            held = lock_stream(connection, stream_lease.c.stream_id == stream_id, lost)
            if held is None:  # renewed, or taken, meanwhile
                continue
            connection.execute(
                update(stream_lease)
                .where(stream_lease.c.stream_id == stream_id)
                .values(owner=None, lease_until=None, generation=stream_lease.c.generation + 1)
            )
            told = change_state(connection, held, StreamState.RETRYING, SILENT, moment)
            tell(connection, held, told, moment)
            swept.append(stream_id)
    return swept


_OWNED: Select[Any] = (
    select(
        stream_lease.c.stream_id,
        stream_lease.c.owner,
        stream_lease.c.generation,
        stream_lease.c.memory,
        stream.c.tenant,
        stream.c.url,
        stream.c.shown,
        stream.c.interval_ms,
        stream.c.hold_s,
        stream.c.priority,
        stream.c.data_id,
        stream.c.revision,
        stream.c.state,
        policy_version.c.body,
    )
    .join(stream, stream.c.id == stream_lease.c.stream_id)
    .join(policy_version, policy_version.c.id == stream.c.policy_version)
    .order_by(stream_lease.c.stream_id)
)


def _owned(row: RowMapping) -> OwnedStream:
    lease = StreamLease(row["stream_id"], row["owner"], row["generation"])
    return OwnedStream(
        lease=lease,
        tenant=row["tenant"],
        url=row["url"],
        shown=row["shown"],
        policy=load_policy(row["body"]),
        interval_ms=row["interval_ms"],
        hold_s=row["hold_s"],
        priority=row["priority"],
        data_id=row["data_id"],
        revision=row["revision"],
        state=StreamState(row["state"]),
        memory=row["memory"],
    )


def _free(now: datetime) -> ColumnElement[bool]:
    return and_(
        stream_lease.c.wanted,
        or_(stream_lease.c.owner.is_(None), stream_lease.c.lease_until < now),
    )


def _keys(leases: Iterable[StreamLease]) -> ColumnElement[bool]:
    keys = [(one.stream_id, one.owner, one.generation) for one in leases]
    columns = (stream_lease.c.stream_id, stream_lease.c.owner, stream_lease.c.generation)
    return tuple_(*columns).in_(keys)


def _let_go(db: Database, which: ColumnElement[bool]) -> int:
    with db.begin() as connection:
        query = select(stream_lease.c.stream_id).where(which).order_by(stream_lease.c.stream_id)
        ids = list(connection.execute(query.with_for_update()).scalars())
        connection.execute(
            update(stream_lease)
            .where(which, stream_lease.c.stream_id.in_(ids))
            .values(owner=None, lease_until=None)
        )
    return len(ids)
