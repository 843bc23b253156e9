"""How much of a tenant's is old, and how much waits for the sweeper."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Select, func, select

from moderation.ids import first_id
from moderation.store.codec import clock
from moderation.store.deletion import BLOB
from moderation.store.engine import Database
from moderation.store.list_expiry import SHOWN
from moderation.store.retention import CLOSED
from moderation.store.tables import (
    event,
    idempotency,
    item,
    list_entry,
    media,
    outbox,
    stream,
    upload,
)

MOST: Final = 10_000
"""Counted no further: what is more is MOST + 1."""


@dataclass(frozen=True, slots=True)
class Retained:
    """Numbers of rows, MOST + 1 at most each. items, media: that are older, and stay. All others go
    with the next sweeps: keys (of idempotency), events, callbacks that are through, streams that
    were deleted, uploads in pieces that nobody went on with, entries of lists that ended long ago,
    and files of deleted items."""

    items: int
    media: int
    keys: int
    events: int
    callbacks: int
    streams: int
    uploads: int
    entries: int
    files: int


def retained(
    db: Database, tenant: str, *, before: datetime, now: datetime | None = None
) -> Retained:
    """Of a tenant, as of now; old is what is from `before`. Raises StoreError."""
    moment = clock(now)
    # The oldest come first by their ids: there is no need to look beyond so many.
    oldest = (
        select(event.c.created)
        .where(event.c.tenant == tenant)
        .order_by(event.c.id)
        .limit(MOST + 1)
        .subquery()
    )
    queries: dict[str, Select[Any]] = {
        "items": select(item.c.id).where(
            item.c.tenant == tenant, item.c.id < first_id("item", before)
        ),
        "media": select(media.c.id).where(
            media.c.tenant == tenant, media.c.id < first_id("media", before)
        ),
        "keys": select(idempotency.c.key).where(
            idempotency.c.tenant == tenant, idempotency.c.created < before
        ),
        "events": select(oldest.c.created).where(oldest.c.created < before),
        "callbacks": select(outbox.c.id).where(
            outbox.c.tenant == tenant,
            outbox.c.kind == "callback",
            outbox.c.state.in_(CLOSED),
            outbox.c.due < before,
        ),
        "streams": select(stream.c.id).where(stream.c.tenant == tenant, stream.c.deleted < before),
        "uploads": select(upload.c.id).where(upload.c.tenant == tenant, upload.c.expires <= moment),
        "entries": select(list_entry.c.id).where(
            list_entry.c.tenant == tenant, list_entry.c.expires < moment - SHOWN
        ),
        "files": select(outbox.c.id).where(
            outbox.c.tenant == tenant, outbox.c.kind == BLOB, outbox.c.state == "pending"
        ),
    }
    with db.connect() as connection:
        return Retained(**{name: _count(connection, query) for name, query in queries.items()})


def _count(connection: Connection, query: Select[Any]) -> int:
    some = query.limit(MOST + 1).subquery()
    return int(connection.execute(select(func.count()).select_from(some)).scalar_one())
