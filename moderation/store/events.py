"""Events of a tenant, in the order in which a reader may rely on them.

A reader resumes after the last id that it saw, so an id must never appear below one that is
already visible. SQLite has one writer. On PostgreSQL two transactions may commit in the other
order than they took their ids, so writers of one tenant take turns from `append` to commit:
append events last.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, insert, select, text

from moderation.store.engine import Database
from moderation.store.tables import event

# First half of the advisory lock's name; the second is the tenant's hash.
EVENT_LOCK = 0x6576


@dataclass(frozen=True, slots=True)
class EventRow:
    """`kind`: item.queued, item.decided, stream.state, alert.opened, … `data` is small: ids and
    the decision."""

    id: int
    tenant: str
    kind: str
    item_id: str | None
    data: dict[str, Any]
    created: datetime
    stream_id: str | None = None


def append(
    connection: Connection,
    *,
    tenant: str,
    kind: str,
    item_id: str | None,
    data: dict[str, Any],
    now: datetime,
    stream_id: str | None = None,
) -> None:
    """Adds an event, as the last statement of a write transaction."""
    if connection.dialect.name == "postgresql":
        turn = text("SELECT pg_advisory_xact_lock(:space, hashtext(:tenant))")
        connection.execute(turn, {"space": EVENT_LOCK, "tenant": tenant})
    row = {
        "tenant": tenant,
        "kind": kind,
        "item_id": item_id,
        "stream_id": stream_id,
        "data": data,
        "created": now,
    }
    connection.execute(insert(event), row)


def after(
    db: Database, tenant: str, last_id: int, limit: int = 100, *, stream_id: str | None = None
) -> list[EventRow]:
    """Events of the tenant with an id above `last_id`, oldest first; of one stream, where that
    is named. Raises StoreError."""
    query = (
        select(event)
        .where(event.c.tenant == tenant, event.c.id > last_id)
        .order_by(event.c.id)
        .limit(limit)
    )
    if stream_id is not None:
        query = query.where(event.c.stream_id == stream_id)
    with db.connect() as connection:
        return [EventRow(**row) for row in connection.execute(query).mappings()]


def newest(db: Database, tenant: str) -> int:
    """Id of the tenant's newest event: where one begins who wants only what comes; 0 where there
    is none. Raises StoreError."""
    with db.connect() as connection:
        query = select(func.max(event.c.id)).where(event.c.tenant == tenant)
        return connection.execute(query).scalar_one() or 0
