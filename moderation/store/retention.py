"""What is not kept for good: idempotency keys, events, callbacks that are through, and deleted
streams with their alerts.

Items, jobs, verdicts, scores and media stay; so do callbacks that are still to be delivered.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Select, delete, select, tuple_

from moderation.store import streams
from moderation.store.engine import Database
from moderation.store.tables import event, idempotency, outbox

CLOSED = ("sent", "dead")


def prune(db: Database, *, before: datetime, limit: int = 1000) -> int:
    """Deletes at most `limit` rows of each table that are older than `before`; how many.

    Every query reads no more than it deletes, by an index. Any number may run at once. Raises
    StoreError.
    """
    return sum(
        (
            _delete(db, (idempotency.c.tenant, idempotency.c.key), _old_keys(before, limit)),
            _delete(db, (event.c.id,), _old_events(before, limit)),
            streams.prune(db, before=before, limit=limit),
            *(_delete(db, (outbox.c.id,), _old_callbacks(x, before, limit)) for x in CLOSED),
        )
    )


def _old_keys(before: datetime, limit: int) -> Select[Any]:
    return (
        select(idempotency.c.tenant, idempotency.c.key)
        .where(idempotency.c.created < before)
        .order_by(idempotency.c.created)
        .limit(limit)
    )


def _old_events(before: datetime, limit: int) -> Select[Any]:
    # The oldest come first by their ids: no need to look beyond `limit` of them.
    oldest = select(event.c.id, event.c.created).order_by(event.c.id).limit(limit).subquery()
    return select(oldest.c.id).where(oldest.c.created < before)


def _old_callbacks(state: str, before: datetime, limit: int) -> Select[Any]:
    # `due` is indexed, and lies a moment after the last attempt.
    return (
        select(outbox.c.id)
        .where(outbox.c.kind == "callback", outbox.c.state == state, outbox.c.due < before)
        .order_by(outbox.c.due)
        .limit(limit)
    )


def _delete(db: Database, key: Sequence[Column[Any]], old: Select[Any]) -> int:
    with db.connect() as connection:
        rows = [tuple(row) for row in connection.execute(old)]
    if not rows:
        return 0
    chosen = key[0].in_([row[0] for row in rows]) if len(key) == 1 else tuple_(*key).in_(rows)
    with db.begin() as connection:
        return connection.execute(delete(key[0].table).where(chosen)).rowcount
