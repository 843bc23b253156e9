"""What has to be sent: written with the change that causes it, sent by others, at least once."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select, update

from moderation.store.codec import clock
from moderation.store.engine import Database
from moderation.store.records import OutboxRow
from moderation.store.tables import outbox

UNDELIVERED = ("pending", "dead")


def due_callbacks(
    db: Database, limit: int = 20, *, lease_s: float = 30.0, now: datetime | None = None
) -> list[OutboxRow]:
    """Takes callbacks that are due, for `lease_s` seconds: no other deliverer gets them.

    One that is neither marked sent, nor to retry, nor dead by then is due again. `attempts`
    counts this delivery. Raises StoreError.
    """
    moment = clock(now)
    due = (
        select(outbox.c.id)
        .where(outbox.c.kind == "callback", outbox.c.state == "pending", outbox.c.due <= moment)
        .order_by(outbox.c.due, outbox.c.id)
        .limit(limit)
    )
    with db.connect() as connection:
        if connection.execute(due.limit(1)).first() is None:
            return []
    with db.begin() as connection:
        rows = (
            connection.execute(
                update(outbox)
                .where(outbox.c.id.in_(due.with_for_update(skip_locked=True)))
                .values(due=moment + timedelta(seconds=lease_s), attempts=outbox.c.attempts + 1)
                .returning(
                    outbox.c.id,
                    outbox.c.tenant,
                    outbox.c.kind,
                    outbox.c.event_id,
                    outbox.c.target,
                    outbox.c.payload,
                    outbox.c.attempts,
                    outbox.c.created,
                )
            )
            .mappings()
            .all()
        )
    return sorted((OutboxRow(**row) for row in rows), key=lambda row: row.id)


def mark_sent(db: Database, row_id: str, *, now: datetime | None = None) -> None:
    """The receiver has it."""
    _mark(db, row_id, state="sent", sent=clock(now), error=None)


def mark_retry(db: Database, row_id: str, *, error: str, at: datetime) -> None:
    """It failed, and is due again at `at`."""
    _mark(db, row_id, state="pending", due=at, error=error)


def put_back(db: Database, row_id: str, *, at: datetime) -> None:
    """It was taken and not tried: due at `at`, and the attempt does not count."""
    _mark(db, row_id, state="pending", due=at, attempts=outbox.c.attempts - 1)


def mark_dead(db: Database, row_id: str, error: str) -> None:
    """It failed for good."""
    _mark(db, row_id, state="dead", error=error)


def task_sent(db: Database, job_id: str, *, now: datetime | None = None) -> None:
    """The task of this job was published. Nothing happens when the job has ended already."""
    with db.begin() as connection:
        connection.execute(
            update(outbox)
            .where(outbox.c.job_id == job_id, outbox.c.kind == "task")
            .values(state="sent", sent=clock(now), attempts=outbox.c.attempts + 1)
        )


def undelivered(db: Database) -> dict[str, int]:
    """Callbacks that are still to be delivered ("pending"), and those that were given up
    ("dead") and are not deleted yet. Raises StoreError."""
    query = (
        select(outbox.c.state, func.count().label("number"))
        .where(outbox.c.kind == "callback", outbox.c.state.in_(UNDELIVERED))
        .group_by(outbox.c.state)
    )
    with db.connect() as connection:
        found = {row.state: row.number for row in connection.execute(query)}
    return {state: found.get(state, 0) for state in UNDELIVERED}


def _mark(db: Database, row_id: str, **values: Any) -> None:
    with db.begin() as connection:
        connection.execute(update(outbox).where(outbox.c.id == row_id).values(values))
