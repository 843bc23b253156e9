"""The sweeper's half: what lost messages, dead workers and passed deadlines left behind.

One mechanism for lost and doubled messages, a broker wiped clean, and restarts. Any number of
sweepers may run at once.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, func, or_, select, tuple_, update

from moderation.store import chunks, followers
from moderation.store.codec import clock
from moderation.store.ending import (
    cancelled,
    end_job,
    lock_job,
    parked,
    send_task_again,
    undecided,
)
from moderation.store.engine import Database
from moderation.store.records import JobState, TaskHint
from moderation.store.tables import chunk, job, outbox
from moderation.types import Status


@dataclass(frozen=True, slots=True)
class SweepResult:
    """`republish`: tasks that the caller publishes now. `ended`: ids of the jobs that the sweep
    ended, for want of attempts (`failed`), by their deadline (`overdue`), because they were
    called off while nobody ran them (`cancelled`), or with the verdict of a job that they
    followed. `expired`: leases of jobs and chunks that ran out; others may have them now."""

    republish: tuple[TaskHint, ...]
    ended: tuple[str, ...]
    expired: int
    failed: int
    overdue: int
    cancelled: int


def sweep(
    db: Database,
    *,
    republish_after_s: float,
    max_attempts: int,
    limit: int = 200,
    chunks_ahead: int = 4,
    now: datetime | None = None,
) -> SweepResult:
    """Ends what cannot run any more, queues what lost its worker, finds what to publish.

    Handles at most `limit` jobs of each sort. A task that was published but not claimed is
    due again after `republish_after_s`, later twice and four times that: a long queue is no
    lost message. Raises StoreError.
    """
    moment = clock(now)
    ended: dict[str, str] = {}
    for job_id in _hopeless(db, max_attempts, limit, moment):
        outcome = _end(db, job_id, max_attempts, moment)
        if outcome is not None:
            ended[job_id] = outcome
    ended |= dict.fromkeys(followers.settle(db, limit, moment), "answered")
    lost = _end_chunks(db, max_attempts, chunks_ahead, limit, moment)
    expired = _requeue_expired(db, limit, moment) + _free_expired_chunks(db, limit, moment)
    republish = _due_tasks(db, timedelta(seconds=republish_after_s), limit, moment)
    why = Counter(ended.values())
    return SweepResult(
        republish=(*lost, *republish),
        ended=tuple(ended),
        expired=expired,
        failed=why["failed"],
        overdue=why["overdue"],
        cancelled=why["cancelled"],
    )


def _held_by_none(now: datetime) -> ColumnElement[bool]:
    """Queued, or its lease ran out, or a video whose parts are worked on."""
    return or_(
        job.c.state == JobState.QUEUED.value,
        and_(job.c.state == JobState.RUNNING.value, job.c.lease_until < now),
        parked(),
    )


def _hopeless(db: Database, max_attempts: int, limit: int, now: datetime) -> list[str]:
    query = (
        select(job.c.id)
        .where(
            _held_by_none(now),
            or_(
                job.c.cancel_requested,
                job.c.attempt >= max_attempts,
                job.c.deadline <= now,
            ),
        )
        .order_by(job.c.id)
        .limit(limit)
    )
    with db.connect() as connection:
        return list(connection.execute(query).scalars())


def _end(db: Database, job_id: str, max_attempts: int, now: datetime) -> str | None:
    """Ends one job, if it still is abandoned; why."""
    with db.begin() as connection:
        held = lock_job(connection, job.c.id == job_id, _held_by_none(now))
        if held is None:
            return None
        if held.cancel_requested:
            end_job(connection, held, JobState.CANCELLED, cancelled(connection, held), now)
            return "cancelled"
        if held.attempt >= max_attempts:
            why, code = "failed", "attempts_exhausted"
            detail = f"The analysis was started {held.attempt} times and never ended."
        else:
            why, code = "overdue", "deadline_passed"
            detail = "The job did not end before its deadline."
        verdict = undecided(connection, held, Status.FAILED, code=code, detail=detail)
        end_job(connection, held, JobState.FAILED, verdict, now, error=detail)
        return why


def _requeue_expired(db: Database, limit: int, now: datetime) -> int:
    stale = (
        select(job.c.id)
        .where(job.c.state == JobState.RUNNING.value, job.c.lease_until < now)
        .order_by(job.c.id)
        .limit(limit)
    )
    # Most sweeps find nothing: then no write is made.
    with db.connect() as connection:
        if connection.execute(stale.limit(1)).first() is None:
            return 0
    with db.begin() as connection:
        ids = list(
            connection.execute(
                update(job)
                .where(job.c.id.in_(stale.with_for_update(skip_locked=True)))
                .values(
                    state=JobState.QUEUED.value,
                    owner=None,
                    lease_until=None,
                    error="its worker went silent",
                    queued=now,
                    updated=now,
                )
                .returning(job.c.id)
            ).scalars()
        )
        if ids:
            send_task_again(connection, ids, now)
        return len(ids)


def _end_chunks(
    db: Database, max_attempts: int, ahead: int, limit: int, now: datetime
) -> list[TaskHint]:
    """Fails the chunks that had all their attempts and are held by none; what to publish."""
    spent = or_(
        *(
            and_(
                chunk.c.stage == stage.value,
                chunk.c.attempt >= chunks.attempts_of(stage, max_attempts),
            )
            for stage in chunks.ACTIVE
        )
    )
    hopeless = and_(spent, or_(chunk.c.owner.is_(None), chunks.expired(now)))
    query = select(chunk.c.job_id, chunk.c.number).where(hopeless).limit(limit)
    with db.connect() as connection:
        found = connection.execute(query).all()
    hints: list[TaskHint] = []
    for job_id, number in found:
        with db.begin() as connection:
            held = lock_job(connection, job.c.id == job_id, parked())
            if held is None:
                continue
            failed = connection.execute(
                update(chunk)
                .where(chunk.c.job_id == job_id, chunk.c.number == number, hopeless)
                .values(
                    stage=chunks.Stage.FAILED.value,
                    owner=None,
                    lease_until=None,
                    error=func.coalesce(chunk.c.error, "its workers went silent"),
                    updated=now,
                )
            )
            if failed.rowcount:
                hints += chunks.advance(connection, held, ahead, now)
    return hints


def _free_expired_chunks(db: Database, limit: int, now: datetime) -> int:
    stale = (
        select(chunk.c.job_id, chunk.c.number)
        .where(chunks.expired(now))
        .order_by(chunk.c.job_id, chunk.c.number)
        .limit(limit)
    )
    with db.connect() as connection:
        if connection.execute(stale.limit(1)).first() is None:
            return 0
    with db.begin() as connection:
        keys = [tuple(row) for row in connection.execute(stale.with_for_update(skip_locked=True))]
        if not keys:
            return 0
        return connection.execute(
            update(chunk)
            .where(tuple_(chunk.c.job_id, chunk.c.number).in_(keys), chunks.expired(now))
            .values(
                owner=None,
                lease_until=None,
                error="its worker went silent",
                due=now,
                updated=now,
            )
        ).rowcount


def _due_tasks(
    db: Database, patience: timedelta, limit: int, now: datetime
) -> tuple[TaskHint, ...]:
    lost = or_(
        *(
            and_(
                outbox.c.attempts >= tries if tries == 3 else outbox.c.attempts == tries,
                outbox.c.sent <= now - patience * factor,
            )
            for tries, factor in ((1, 1), (2, 2), (3, 4))
        )
    )
    due = (
        select(outbox.c.id, outbox.c.job_id, job.c.kind, job.c.priority)
        .join(job, job.c.id == outbox.c.job_id)
        .where(
            outbox.c.kind == "task",
            job.c.state == JobState.QUEUED.value,
            job.c.cancel_requested.is_(False),
            or_(and_(outbox.c.state == "pending", outbox.c.due <= now), lost),
        )
        .order_by(job.c.priority.desc(), outbox.c.id)
        .limit(limit)
    )
    with db.connect() as connection:
        if connection.execute(due.limit(1)).first() is None:
            return ()
    with db.begin() as connection:
        rows = connection.execute(due.with_for_update(of=outbox, skip_locked=True)).all()
        if rows:
            connection.execute(
                update(outbox)
                .where(outbox.c.id.in_([row.id for row in rows]))
                .values(state="sent", sent=now, attempts=outbox.c.attempts + 1)
            )
    return tuple(TaskHint(row.job_id, row.kind, row.priority) for row in rows)
