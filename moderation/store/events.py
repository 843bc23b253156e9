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

from sqlalchemy import Connection, insert, select, text

from moderation.store.engine import Database
from moderation.store.tables import event

# First half of the advisory lock's name; the second is the tenant's hash.
EVENT_LOCK = 0x6576


@dataclass(frozen=True, slots=True)
class EventRow:
    """`kind`: item.queued, item.decided, … `data` is small: ids and the decision."""

    id: int
    tenant: str
    kind: str
    item_id: str | None
    data: dict[str, Any]
    created: datetime


def append(
    connection: Connection,
    *,
    tenant: str,
    kind: str,
    item_id: str | None,
    data: dict[str, Any],
    now: datetime,
) -> None:
    """Adds an event, as the last statement of a write transaction."""
    if connection.dialect.name == "postgresql":
        turn = text("SELECT pg_advisory_xact_lock(:space, hashtext(:tenant))")
        connection.execute(turn, {"space": EVENT_LOCK, "tenant": tenant})
    row = {"tenant": tenant, "kind": kind, "item_id": item_id, "data": data, "created": now}
    connection.execute(insert(event), row)


def after(db: Database, tenant: str, last_id: int, limit: int = 100) -> list[EventRow]:
    """Events of the tenant with an id above `last_id`, oldest first. Raises StoreError."""
    query = (
        select(event)
        .where(event.c.tenant == tenant, event.c.id > last_id)
        .order_by(event.c.id)
        .limit(limit)
    )
    with db.connect() as connection:
        return [EventRow(**row) for row in connection.execute(query).mappings()]
