"""Who runs a job: claim, renew, finish, give back. A claim is one UPDATE.

(job, owner, attempt) names a claim. A worker that lost its lease may go on computing; what it
then writes is refused. Leases of chunks are prolonged and given back together with those of jobs.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    or_,
    select,
    true,
    tuple_,
    update,
)

from moderation.store.chunks import backoff, chunk_keys
from moderation.store.codec import clock, load_policy
from moderation.store.ending import (
    cancelled,
    end_job,
    held_by,
    lock_job,
    send_task_again,
    store_results,
    undecided,
)
from moderation.store.engine import Database
from moderation.store.records import Claim, Finished, JobState, NewMedia, VideoOptions
from moderation.store.same_bytes import by_a_person
from moderation.store.tables import chunk, item, job, media, policy_version
from moderation.types import Status


def claim(
    db: Database,
    job_id: str,
    owner: str,
    lease_s: float,
    *,
    max_attempts: int | None = None,
    now: datetime | None = None,
) -> Claim | None:
    """Takes a queued job, or one whose lease ran out, for `lease_s` seconds.

    None: somebody else runs it, it has ended, its deadline passed, it is called off, or it
    has had `max_attempts` (the sweeper ends those). Raises StoreError.
    """
    moment = clock(now)
    conditions: list[ColumnElement[bool]] = [
        job.c.id == job_id,
        job.c.cancel_requested.is_(False),
        or_(job.c.deadline.is_(None), job.c.deadline > moment),
        or_(
            job.c.state == JobState.QUEUED.value,
            and_(job.c.state == JobState.RUNNING.value, job.c.lease_until < moment),
        ),
    ]
    if max_attempts is not None:
        conditions.append(job.c.attempt < max_attempts)
    take = (
        update(job)
        .where(*conditions)
        .values(
            state=JobState.RUNNING.value,
            owner=owner,
            attempt=job.c.attempt + 1,
            lease_until=moment + timedelta(seconds=lease_s),
            updated=moment,
        )
        .returning(job.c.attempt)
    )
    with db.begin() as connection:
        attempt = connection.execute(take).scalar_one_or_none()
        if attempt is None:
            return None
        row = connection.execute(_CLAIMED.where(job.c.id == job_id)).mappings().one()
    return Claim(
        job_id=job_id,
        item_id=row["item_id"],
        tenant=row["tenant"],
        attempt=attempt,
        owner=owner,
        media=NewMedia(
            sha256=row["sha256"],
            size=row["size"],
            format=row["format"],
            blob_key=row["blob_key"],
            kind=row["kind"],
            width=row["width"],
            height=row["height"],
        ),
        media_id=row["media_id"],
        policy=load_policy(row["body"]),
        source=row["source"],
        data_id=row["data_id"],
        callback_url=row["callback_url"],
        created=row["created"],
        queued_ms=max(0.0, (moment - row["queued"]).total_seconds() * 1000),
        video=VideoOptions.from_json(row["options"]),
        film=row["film"],
    )


_CLAIMED = (
    select(
        job.c.item_id,
        job.c.tenant,
        job.c.callback_url,
        job.c.created,
        job.c.queued,
        job.c.options,
        job.c.film,
        item.c.media_id,
        item.c.source,
        item.c.data_id,
        media.c.sha256,
        media.c.size,
        media.c.format,
        media.c.blob_key,
        media.c.kind,
        media.c.width,
        media.c.height,
        policy_version.c.body,
    )
    .join(item, item.c.id == job.c.item_id)
    .join(media, media.c.id == item.c.media_id)
    .join(policy_version, policy_version.c.id == job.c.policy_version)
)


def renew(
    db: Database,
    owner: str,
    lease_s: float,
    *,
    only: Collection[str] | None = None,
    now: datetime | None = None,
) -> int:
    """Prolongs the leases of the owner, of jobs and of chunks; how many. Raises StoreError.

    only: ids of jobs and names of chunks; None: all of them.

    Not those of jobs past their deadline: a thread that hangs beside a living heartbeat would
    keep its job for ever. Their leases run out, and the sweeper ends them.
    """
    moment = clock(now)
    until = moment + timedelta(seconds=lease_s)
    in_time = or_(job.c.deadline.is_(None), job.c.deadline > moment)
    wanted = true() if only is None else job.c.id.in_(sorted(only))
    wanted_chunks = true() if only is None else _any_of(chunk_keys(only))
    with db.begin() as connection:
        renewed = connection.execute(
            update(job)
            .where(job.c.id.in_(_running_of(owner, in_time, wanted)))
            .values(lease_until=until)
        ).rowcount
        held = _chunks_of(connection, owner, in_time, wanted_chunks)
        if held:
            connection.execute(
                update(chunk).where(_any_of(held), chunk.c.owner == owner).values(lease_until=until)
            )
        return renewed + len(held)


def finish(db: Database, claim: Claim, finished: Finished, *, now: datetime | None = None) -> bool:
    """Ends a claimed job with its result, in one transaction.

    False, and nothing written, when the claim no longer holds: the job has ended (perhaps by
    this very call, sent twice) or runs elsewhere. A job that was called off while it ran ends
    CANCELLED. A person's decision on the same bytes outranks the models, and entries of lists that
    were there before it. Raises StoreError, and ValueError for the verdict of another item.
    """
    verdict = finished.verdict
    if verdict.id != claim.item_id:
        raise ValueError(f"the verdict is of {verdict.id}, the claim of {claim.item_id}")
    moment = clock(now)
    with db.begin() as connection:
        held = lock_job(connection, *held_by(claim))
        if held is None:
            return False
        if held.cancel_requested:
            end_job(connection, held, JobState.CANCELLED, cancelled(connection, held), moment)
            return True
        store_results(connection, held, finished, moment)
        person = by_a_person(connection, held)
        passed_from: int | None = None
        if person is not None and (finished.listed or 0) <= person.lists:
            verdict, passed_from = person.answer.verdict, person.answer.passed_from
        state = JobState.DONE if verdict.status is Status.DONE else JobState.FAILED
        detail = None if verdict.error is None else verdict.error.detail
        end_job(
            connection,
            held,
            state,
            verdict,
            moment,
            error=detail,
            drawn=finished.drawn,
            passed_from=passed_from,
        )
        return True


def release(
    db: Database, claim: Claim, *, error: str, max_attempts: int, now: datetime | None = None
) -> JobState:
    """Gives a job back for another attempt after a short back-off, saying what went wrong.

    After `max_attempts` it ends FAILED, by the policy's `on_failure`. Returns the job's state;
    a claim that no longer holds changes nothing. Raises StoreError.
    """
    moment = clock(now)
    with db.begin() as connection:
        held = lock_job(connection, *held_by(claim))
        if held is None:
            state = connection.execute(select(job.c.state).where(job.c.id == claim.job_id))
            return JobState(state.scalar_one())
        if held.cancel_requested:
            end_job(connection, held, JobState.CANCELLED, cancelled(connection, held), moment)
            return JobState.CANCELLED
        if held.attempt >= max_attempts:
            verdict = undecided(
                connection,
                held,
                Status.FAILED,
                code="attempts_exhausted",
                detail=f"The analysis failed {held.attempt} times; the last time: {error}",
            )
            end_job(connection, held, JobState.FAILED, verdict, moment, error=error)
            return JobState.FAILED
        again = moment + backoff(held.attempt)
        connection.execute(
            update(job)
            .where(job.c.id == held.id)
            .values(
                state=JobState.QUEUED.value,
                owner=None,
                lease_until=None,
                error=error,
                queued=again,
                updated=moment,
            )
        )
        send_task_again(connection, [held.id], again)
        return JobState.QUEUED


def release_owner(db: Database, owner: str, *, now: datetime | None = None) -> int:
    """Queues all jobs that a dead or stopping worker was running, and gives its chunks back; how
    many. Raises StoreError.

    Their tasks are due at once: the next sweep publishes them.
    """
    moment = clock(now)
    with db.begin() as connection:
        ids = list(
            connection.execute(
                update(job)
                .where(job.c.id.in_(_running_of(owner)))
                .values(
                    state=JobState.QUEUED.value,
                    owner=None,
                    lease_until=None,
                    queued=moment,
                    updated=moment,
                )
                .returning(job.c.id)
            ).scalars()
        )
        if ids:
            send_task_again(connection, ids, moment)
        held = _chunks_of(connection, owner)
        if held:
            connection.execute(
                update(chunk)
                .where(_any_of(held), chunk.c.owner == owner)
                .values(owner=None, lease_until=None, due=moment, updated=moment)
            )
        return len(ids) + len(held)


def _running_of(owner: str, *conditions: ColumnElement[bool]) -> Select[tuple[str]]:
    # Locked in the order of their ids, so that two such updates cannot block each other.
    return (
        select(job.c.id)
        .where(job.c.state == JobState.RUNNING.value, job.c.owner == owner, *conditions)
        .order_by(job.c.id)
        .with_for_update()
    )


def _chunks_of(
    connection: Connection, owner: str, *conditions: ColumnElement[bool]
) -> list[tuple[str, int]]:
    """The chunks of the owner, locked in order; `conditions` on them and their jobs."""
    query = (
        select(chunk.c.job_id, chunk.c.number)
        .join(job, job.c.id == chunk.c.job_id)
        .where(chunk.c.owner == owner, *conditions)
        .order_by(chunk.c.job_id, chunk.c.number)
        .with_for_update(of=chunk)
    )
    return [(row.job_id, row.number) for row in connection.execute(query)]


def _any_of(keys: list[tuple[str, int]]) -> ColumnElement[bool]:
    return tuple_(chunk.c.job_id, chunk.c.number).in_(keys)
