"""What a person's decision answered while it held is asked anew once it is taken back.

Other items with the same bytes that got it have another person's decision from then on, or are
looked at like any upload: as they would have been without it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, select, update

from moderation.store.ending import OpenJob, announce, lock_job, put_in_force
from moderation.store.events import append
from moderation.store.opening import insert_task
from moderation.store.passing_on import Answer
from moderation.store.records import JobState
from moderation.store.same_bytes import by_a_person
from moderation.store.tables import item, job
from moderation.store.tables import verdict as verdicts


@dataclass(frozen=True, slots=True)
class Recalled:
    """answer: what holds instead; None: it is looked at."""

    job: OpenJob
    answer: Answer | None


def lock_same_bytes(connection: Connection, item_id: str) -> None:
    """Locks the jobs on an item's bytes, in the order in which a deletion does."""
    media = select(item.c.media_id).where(item.c.id == item_id).scalar_subquery()
    query = (
        select(job.c.id)
        .join(item, item.c.id == job.c.item_id)
        .where(item.c.media_id == media)
        .order_by(job.c.id)
        .with_for_update(of=job)
    )
    connection.execute(query).all()


def recall(connection: Connection, media_id: str, origin: int, now: datetime) -> list[Recalled]:
    """Called when the verdict that `origin` was has been put back, and its decision is marked as
    undone under a lock: nobody passes it on from then on. To be announced in the same
    transaction."""
    query = (
        select(job.c.id)
        .join(item, item.c.job_id == job.c.id)
        .join(verdicts, verdicts.c.id == item.c.current_verdict)
        .where(item.c.media_id == media_id, verdicts.c.passed_from == origin)
        .order_by(job.c.id)
    )
    found = list(connection.execute(query).scalars())
    return [one for job_id in found if (one := _recall(connection, job_id, origin, now))]


def tell(connection: Connection, recalled: list[Recalled], now: datetime) -> None:
    """Nothing may follow it in the transaction but other events and its commit."""
    for one in recalled:
        if one.answer is not None:
            announce(connection, one.job, one.answer.verdict, now)
            continue
        append(
            connection,
            tenant=one.job.tenant,
            kind="item.queued",
            item_id=one.job.item_id,
            data={"item_id": one.job.item_id, "job_id": one.job.id},
            now=now,
        )


def _recall(connection: Connection, job_id: str, origin: int, now: datetime) -> Recalled | None:
    held = lock_job(connection, job.c.id == job_id)
    # Deleted, or decided otherwise, before it was locked: then it has nothing to do with this.
    in_force = (
        select(verdicts.c.id)
        .join(item, item.c.current_verdict == verdicts.c.id)
        .where(item.c.job_id == job_id, verdicts.c.passed_from == origin)
    )
    if held is None or connection.execute(in_force).one_or_none() is None:
        return None
    person = by_a_person(connection, held)
    if person is None:
        return Recalled(_look_again(connection, held, now), None)
    answer = person.answer
    put_in_force(connection, held, answer.verdict, now, passed_from=answer.passed_from)
    return Recalled(held, answer)


def _look_again(connection: Connection, held: OpenJob, now: datetime) -> OpenJob:
    """The job is queued as if it had never ended, with as long to its deadline as it had."""
    row = connection.execute(
        select(job.c.kind, job.c.deadline, job.c.queued).where(job.c.id == held.id)
    ).one()
    connection.execute(
        update(job)
        .where(job.c.id == held.id)
        .values(
            state=JobState.QUEUED.value,
            attempt=0,
            owner=None,
            models=None,
            film=None,
            deadline=None if row.deadline is None else now + (row.deadline - row.queued),
            queued=now,
            updated=now,
            ended=None,
        )
    )
    connection.execute(
        update(item)
        .where(item.c.id == held.item_id)
        .values(current_verdict=None, decision=None, status=None)
    )
    insert_task(connection, held, row.kind, None, due=now, now=now)
    return replace(held, state=JobState.QUEUED, attempt=0, owner=None)
