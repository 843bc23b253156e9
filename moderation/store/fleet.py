"""Which workers live, by their own report."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta

from sqlalchemy import delete, select

from moderation.store.codec import clock
from moderation.store.engine import Database
from moderation.store.records import WorkerRow
from moderation.store.tables import worker
from moderation.store.upsert import upsert

# Rows of workers that were killed are cleared away by the others' heartbeats.
FORGET_AFTER = timedelta(hours=1)


def heartbeat(db: Database, row: WorkerRow, *, now: datetime | None = None) -> None:
    """Writes a worker's report, as seen now. Raises StoreError."""
    moment = clock(now)
    values = {**asdict(row), "seen": moment, "started": row.started or moment}
    changes = {k: v for k, v in values.items() if k not in ("id", "started")}
    with db.begin() as connection:
        upsert(connection, worker, values, ["id"], changes)
        connection.execute(delete(worker).where(worker.c.seen < moment - FORGET_AFTER))


def living(
    db: Database, *, role: str | None = None, within_s: float = 10.0, now: datetime | None = None
) -> list[WorkerRow]:
    """Workers that reported within the last seconds, oldest first. Raises StoreError."""
    query = (
        select(worker)
        .where(worker.c.seen >= clock(now) - timedelta(seconds=within_s))
        .order_by(worker.c.started, worker.c.id)
    )
    if role is not None:
        query = query.where(worker.c.role == role)
    with db.connect() as connection:
        return [WorkerRow(**row) for row in connection.execute(query).mappings()]


def forget(db: Database, worker_id: str) -> None:
    """A worker that stopped, or is known to be dead, lives no longer."""
    with db.begin() as connection:
        connection.execute(delete(worker).where(worker.c.id == worker_id))
