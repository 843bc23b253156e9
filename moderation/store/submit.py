"""A submission becomes an item and a job, or the answer that is already known."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import Connection, select

from moderation.errors import ConflictError
from moderation.ids import new_id
from moderation.store import followers, listed, same_bytes
from moderation.store.codec import clock, load_verdict, model_set
from moderation.store.ending import OpenJob, record_verdict
from moderation.store.engine import Database
from moderation.store.events import append
from moderation.store.opening import insert_item, insert_task, keep_media
from moderation.store.policies import keep_policy
from moderation.store.records import JobState, NewItem, Submission
from moderation.store.tables import idempotency, item, job
from moderation.store.tables import verdict as verdicts
from moderation.store.upsert import insert_new

# The submitter publishes the task itself, right after the commit; the sweeper does it when
# that has not happened for this long.
PUBLISH_GRACE = timedelta(seconds=2)


def submit(
    db: Database,
    new: NewItem,
    *,
    dedupe_models: tuple[str, ...] | None = None,
    restored: str | None = None,
    now: datetime | None = None,
) -> Submission:
    """Stores a submission in one transaction. The bytes are stored already.

    With an idempotency key that was used before, the earlier submission is returned
    (`replayed`); used with another request it raises ConflictError (idempotency_conflict).
    Bytes that a list of the tenant has are decided by it, and no job runs. Else what a person
    decided on the same bytes of the same tenant answers at once, and with `dedupe_models` a verdict
    of the same tenant on the same bytes, by the same policy and exactly these models (and of a
    video, looked at in the same way); neither where an entry that was put on a list since then may
    say something else. A video that is being looked at in the same way just now is not looked at
    twice: the new job `follows`. Else the job is QUEUED and the caller publishes its task. Raises
    StoreError, and BytesRemovedError where the bytes may have been deleted since: the caller stores
    them once more, and names that removal as `restored`.
    """
    moment = clock(now)
    item_id, job_id = new_id("item"), new_id("job")
    with db.begin() as connection:
        if new.idempotency_key is not None:
            earlier = _take_key(connection, new, new.idempotency_key, item_id, job_id, moment)
            if earlier is not None:
                return earlier
        policy_id = keep_policy(connection, new.tenant, new.policy, moment)
        media_id = keep_media(connection, new.tenant, new.media, moment, restored=restored)
        held = OpenJob(
            id=job_id,
            item_id=item_id,
            tenant=new.tenant,
            media_id=media_id,
            state=JobState.QUEUED,
            attempt=0,
            cancel_requested=False,
            policy_version=policy_id,
            callback_url=new.callback_url,
            source=new.source,
            data_id=new.data_id,
        )
        leader = None
        version = listed.version_of(connection, new.tenant)
        known = same_bytes.by_a_list(connection, held, new, moment) if version else None
        if known is None:
            known = same_bytes.still_by_a_person(connection, held, version, moment)
        if known is None and dedupe_models is not None:
            known = same_bytes.duplicate(connection, held, new, dedupe_models, version, moment)
            if known is None and new.media.kind == same_bytes.VIDEO:
                leader = followers.leader_of(connection, held, followers.same_options(new.video))
        state = JobState.QUEUED if known is None else JobState.DONE
        insert_item(
            connection,
            replace(held, state=state),
            kind=new.media.kind,
            models=None if known is None else model_set(known.verdict.models),
            now=moment,
            priority=new.priority,
            deadline=new.deadline,
            options=None if new.video is None else new.video.to_json(),
            lists=version,
        )
        if known is None:
            kind, due = new.media.kind, moment + PUBLISH_GRACE
            insert_task(connection, held, kind, leader, due=due, now=moment)
            data = {"item_id": item_id, "job_id": job_id}
            append(
                connection,
                tenant=new.tenant,
                kind="item.queued",
                item_id=item_id,
                data=data,
                now=moment,
            )
        else:
            verdict, passed_from = known.verdict, known.passed_from
            record_verdict(connection, held, verdict, moment, passed_from=passed_from)
    return Submission(
        item_id=item_id,
        job_id=job_id,
        state=state,
        verdict=None if known is None else known.verdict,
        follows=leader is not None,
    )


def submitted_before(
    db: Database, tenant: str, key: str, request_hash: str | None
) -> Submission | None:
    """What `submit` would return for an idempotency key that was used before; None when it was
    not. Raises ConflictError (idempotency_conflict), StoreError."""
    with db.connect() as connection:
        return _earlier(connection, tenant, key, request_hash)


def _take_key(
    connection: Connection, new: NewItem, key: str, item_id: str, job_id: str, now: datetime
) -> Submission | None:
    """None when the key is this submission's from now on."""
    row = {
        "tenant": new.tenant,
        "key": key,
        "request_hash": new.request_hash or "",
        "item_id": item_id,
        "job_id": job_id,
        "created": now,
    }
    # Two at once: the later one waits here until the earlier has committed.
    if insert_new(connection, idempotency, row, ["tenant", "key"]):
        return None
    return _earlier(connection, new.tenant, key, new.request_hash)


def _earlier(
    connection: Connection, tenant: str, key: str, request_hash: str | None
) -> Submission | None:
    query = (
        select(
            idempotency.c.request_hash,
            idempotency.c.item_id,
            idempotency.c.job_id,
            job.c.state,
            verdicts.c.body,
        )
        .join(job, job.c.id == idempotency.c.job_id)
        .join(item, item.c.id == idempotency.c.item_id)
        .outerjoin(verdicts, verdicts.c.id == item.c.current_verdict)
        .where(idempotency.c.tenant == tenant, idempotency.c.key == key)
    )
    found = connection.execute(query).one_or_none()
    if found is None:
        return None
    if found.request_hash != (request_hash or ""):
        raise ConflictError(
            "This Idempotency-Key was used with another request.", code="idempotency_conflict"
        )
    return Submission(
        item_id=found.item_id,
        job_id=found.job_id,
        state=JobState(found.state),
        verdict=None if found.body is None else load_verdict(found.body),
        replayed=True,
    )
