"""Jobs: the state machine that everything else follows. One module to import it from."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, RowMapping, func, insert, select, update

from moderation.errors import NotFoundError
from moderation.store.codec import clock
from moderation.store.ending import cancelled, end_job, lock_job
from moderation.store.engine import Database
from moderation.store.leases import claim, finish, release, release_owner, renew
from moderation.store.records import JobRow, JobState, TaskHint
from moderation.store.submit import submit, submitted_before
from moderation.store.sweep import SweepResult, sweep
from moderation.store.tables import audit, job, policy_version

__all__ = [
    "SweepResult",
    "TaskHint",
    "cancel",
    "claim",
    "counts",
    "finish",
    "get_job",
    "oldest_queued_s",
    "release",
    "release_owner",
    "renew",
    "submit",
    "submitted_before",
    "sweep",
]


def cancel(
    db: Database, tenant: str, job_id: str, *, actor: str = "system", now: datetime | None = None
) -> JobRow:
    """Calls a job off. A queued one ends CANCELLED at once, by the policy's `on_failure`, and so
    does a video whose parts are worked on; another running one when its worker is through; an
    ended one stays as it is.

    `actor` (a key's id) goes to the audit. Raises NotFoundError, StoreError.
    """
    moment = clock(now)
    with db.begin() as connection:
        held = lock_job(connection, job.c.id == job_id, job.c.tenant == tenant)
        if held is None:
            raise NotFoundError(f"There is no job {job_id}.")
        if not held.state.ended and not held.cancel_requested:
            connection.execute(
                update(job).where(job.c.id == job_id).values(cancel_requested=True, updated=moment)
            )
            connection.execute(
                insert(audit).values(
                    tenant=tenant,
                    actor=actor,
                    action="job.cancel",
                    target=job_id,
                    detail={"state": held.state.value},
                    created=moment,
                )
            )
            if held.state is JobState.QUEUED or held.parked:
                verdict = cancelled(connection, held)
                end_job(connection, held, JobState.CANCELLED, verdict, moment)
        return _read(connection, tenant, job_id)


def get_job(db: Database, tenant: str, job_id: str) -> JobRow:
    """Raises NotFoundError, also for a job of another tenant; StoreError."""
    with db.connect() as connection:
        return _read(connection, tenant, job_id)


def counts(db: Database) -> dict[JobState, int]:
    """How many jobs are in each state, over all tenants; every state is present."""
    query = select(job.c.state, func.count().label("number")).group_by(job.c.state)
    with db.connect() as connection:
        found = {row.state: row.number for row in connection.execute(query)}
    return {state: found.get(state.value, 0) for state in JobState}


def oldest_queued_s(db: Database, *, now: datetime | None = None) -> float:
    """Seconds that the longest waiting job has been queued; 0 when none is."""
    query = select(func.min(job.c.queued)).where(job.c.state == JobState.QUEUED.value)
    with db.connect() as connection:
        oldest = connection.execute(query).scalar()
    return 0.0 if oldest is None else max(0.0, (clock(now) - oldest).total_seconds())


def _read(connection: Connection, tenant: str, job_id: str) -> JobRow:
    query = (
        select(job, policy_version.c.ref)
        .join(policy_version, policy_version.c.id == job.c.policy_version)
        .where(job.c.id == job_id, job.c.tenant == tenant)
    )
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise NotFoundError(f"There is no job {job_id}.")
    return _job_row(row)


def _job_row(row: RowMapping) -> JobRow:
    return JobRow(
        id=row["id"],
        item_id=row["item_id"],
        tenant=row["tenant"],
        kind=row["kind"],
        state=JobState(row["state"]),
        attempt=row["attempt"],
        created=row["created"],
        updated=row["updated"],
        policy=row["ref"],
        cancel_requested=row["cancel_requested"],
        error=row["error"],
    )
