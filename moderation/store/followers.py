"""Videos that wait for the same analysis of another item: looked at once, answered together.

A follower is a queued job whose task is held back and names the job that it follows. No end of a
job looks for followers: the sweeper settles those whose leader has ended, so that nothing is lost
whatever dies when.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Text, cast, func, or_, select, update

from moderation.store.ending import OpenJob, end_job, lock_job
from moderation.store.engine import Database
from moderation.store.passing_on import ORIGIN, passed_on
from moderation.store.records import JobState, VideoOptions
from moderation.store.tables import item, job, outbox
from moderation.store.tables import verdict as verdicts
from moderation.types import Status

HELD: Final = "held"
"""State of the task of a follower: not to be published."""
OPEN: Final = (JobState.QUEUED.value, JobState.RUNNING.value)
ENDED: Final = tuple(state.value for state in JobState if state.ended)


def same_options(options: VideoOptions | None) -> ColumnElement[bool]:
    """The job looks at its video in this very way."""
    told = None if options is None else options.to_json()
    return cast(job.c.options, Text) == json.dumps(told)


def follows() -> ColumnElement[bool]:
    """The job is a follower. Asked of all followers at once: there may be thousands, and as many
    jobs that are asked whether they are one."""
    held = select(outbox.c.job_id).where(
        outbox.c.kind == "task", outbox.c.state == HELD, outbox.c.job_id.is_not(None)
    )
    return job.c.id.in_(held)


def leader_of(connection: Connection, held: OpenJob, options: ColumnElement[bool]) -> str | None:
    """The job that looks at the same bytes, by the same policy and `options`, and has not ended;
    the first one, and none that is a follower itself."""
    # Found by their items: a policy has judged all jobs there ever were.
    of_bytes = select(item.c.id).where(
        item.c.tenant == held.tenant, item.c.media_id == held.media_id
    )
    query = (
        select(job.c.id)
        .where(
            job.c.item_id.in_(of_bytes),
            job.c.kind == "video",
            job.c.id != held.id,
            job.c.state.in_(OPEN),
            job.c.cancel_requested.is_(False),
            job.c.policy_version == held.policy_version,
            options,
            ~follows(),
        )
        .order_by(job.c.id)
        .limit(1)
    )
    return connection.execute(query).scalar_one_or_none()


def settle(db: Database, limit: int, now: datetime) -> list[str]:
    """Ends followers with the verdict of the job that they followed; their ids.

    Where that has none (it failed, was called off, or is deleted), or does not know the lists as
    the follower found them, the first of them becomes a job like any other, whose task is due at
    once, and the others follow it. Raises StoreError.
    """
    leader = job.alias()
    followed = outbox.c.payload["follows"].as_string()
    over = or_(leader.c.id.is_(None), leader.c.state.in_(ENDED))
    query = (
        select(outbox.c.job_id, followed)
        .outerjoin(leader, leader.c.id == followed)
        .where(outbox.c.kind == "task", outbox.c.state == HELD, over)
        .order_by(outbox.c.id)
        .limit(limit)
    )
    with db.connect() as connection:
        found = connection.execute(query).all()
    return [follower for follower, ended in found if _settle(db, follower, ended, now)]


def _settle(db: Database, job_id: str, leader: str, now: datetime) -> bool:
    """Whether the follower has its verdict now."""
    with db.begin() as connection:
        held = lock_job(connection, job.c.id == job_id, job.c.state == JobState.QUEUED.value)
        if held is None:
            return False
        own = job.alias()
        found = connection.execute(
            select(verdicts.c.body, ORIGIN)
            .join(item, item.c.current_verdict == verdicts.c.id)
            .join(job, job.c.id == item.c.job_id)
            .join(own, own.c.id == job_id)
            .where(
                item.c.job_id == leader,
                item.c.status == Status.DONE.value,
                func.coalesce(job.c.lists, 0) >= func.coalesce(own.c.lists, 0),
            )
        ).one_or_none()
        if found is not None:
            answer = passed_on(connection, held, *found)
            # Taken back just now: the next sweep finds what holds instead.
            if answer is None:
                return False
            end_job(
                connection,
                held,
                JobState.DONE,
                answer.verdict,
                now,
                passed_from=answer.passed_from,
            )
            return True
        told = connection.execute(select(job.c.options).where(job.c.id == job_id)).scalar_one()
        options = None if told is None else VideoOptions.from_json(told)
        other = leader_of(connection, held, same_options(options))
        task: dict[str, Any] = {"payload": {"job_id": job_id, "kind": "video", "follows": other}}
        if other is None:
            task = {"payload": {"job_id": job_id, "kind": "video"}, "state": "pending", "due": now}
        connection.execute(
            update(outbox)
            .where(outbox.c.job_id == job_id, outbox.c.kind == "task", outbox.c.state == HELD)
            .values(task)
        )
        return False
