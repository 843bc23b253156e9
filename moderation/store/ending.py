"""How a job ends: exactly once, with its verdict, in one transaction.

Whoever ends a job first locks its row (`lock_job`), so the checks made on it still hold when
the rest is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, insert, select, update

from moderation.ids import new_id
from moderation.policy import Policy, decide_failure
from moderation.store.codec import (
    dump_verdict,
    iso,
    load_policy,
    model_set,
    pack_f16,
    unique,
)
from moderation.store.events import append
from moderation.store.fingerprints import remember
from moderation.store.records import Claim, Finished, JobState
from moderation.store.review_entry import note_verdict
from moderation.store.score_rows import dump_scores
from moderation.store.tables import (
    chunk,
    embedding,
    item,
    job,
    media,
    outbox,
    policy_version,
    scores,
    verdict_label,
)
from moderation.store.tables import verdict as verdicts
from moderation.store.upsert import insert_new
from moderation.types import Coverage, Problem, Status, Verdict


@dataclass(frozen=True, slots=True)
class OpenJob:
    """A job whose row this transaction has locked."""

    id: str
    item_id: str
    tenant: str
    media_id: str
    state: JobState
    attempt: int
    cancel_requested: bool
    policy_version: str
    callback_url: str | None
    source: str | None
    data_id: str | None
    owner: str | None = None

    @property
    def parked(self) -> bool:
        """A video whose chunks are worked on: it runs, and nobody holds it."""
        return self.state is JobState.RUNNING and self.owner is None


def parked() -> ColumnElement[bool]:
    """As `OpenJob.parked`, to ask the database by."""
    return and_(job.c.state == JobState.RUNNING.value, job.c.owner.is_(None))


def held_by(claim: Claim) -> tuple[ColumnElement[bool], ...]:
    """The claim still holds."""
    return (
        job.c.id == claim.job_id,
        job.c.state == JobState.RUNNING.value,
        job.c.owner == claim.owner,
        job.c.attempt == claim.attempt,
    )


def lock_job(connection: Connection, *conditions: ColumnElement[bool]) -> OpenJob | None:
    """Locks the job that meets the conditions; None when there is none.

    PostgreSQL locks the row and looks at it again once a rival is through; on SQLite the
    write transaction itself excludes rivals.
    """
    query = (
        select(
            job.c.id,
            job.c.item_id,
            job.c.tenant,
            item.c.media_id,
            job.c.state,
            job.c.attempt,
            job.c.cancel_requested,
            job.c.policy_version,
            job.c.callback_url,
            item.c.source,
            item.c.data_id,
            job.c.owner,
        )
        .join(item, item.c.id == job.c.item_id)
        .where(*conditions)
        .with_for_update(of=job)
    )
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else OpenJob(**{**row, "state": JobState(row["state"])})


def end_job(
    connection: Connection,
    held: OpenJob,
    state: JobState,
    verdict: Verdict,
    now: datetime,
    *,
    error: str | None = None,
    drawn: bool = False,
    passed_from: int | None = None,
) -> None:
    """Ends a locked job: its state, verdict, callback and event; its chunks go. Nothing may
    follow it in the transaction but its commit. drawn, passed_from: as in `put_in_force`."""
    connection.execute(
        update(job)
        .where(job.c.id == held.id)
        .values(
            state=state.value,
            models=model_set(verdict.models),
            error=error,
            lease_until=None,
            ended=now,
            updated=now,
        )
    )
    connection.execute(delete(outbox).where(outbox.c.job_id == held.id, outbox.c.kind == "task"))
    connection.execute(delete(chunk).where(chunk.c.job_id == held.id))
    record_verdict(connection, held, verdict, now, drawn=drawn, passed_from=passed_from)


def record_verdict(
    connection: Connection,
    held: OpenJob,
    verdict: Verdict,
    now: datetime,
    *,
    drawn: bool = False,
    passed_from: int | None = None,
) -> None:
    """Appends a verdict, puts it in force, and announces it by callback and event. drawn,
    passed_from: as in `put_in_force`."""
    put_in_force(connection, held, verdict, now, drawn=drawn, passed_from=passed_from)
    announce(connection, held, verdict, now)


def put_in_force(
    connection: Connection,
    held: OpenJob,
    verdict: Verdict,
    now: datetime,
    *,
    lists: int | None = None,
    drawn: bool = False,
    passed_from: int | None = None,
) -> int:
    """Appends a verdict and puts it in force: lists filter by it, and the queue of people has the
    item, or not. Its number. To be announced in the same transaction. lists: their version, where a
    person decides. drawn: people look at it for an audit, should the policy have passed it.
    passed_from: the verdict of another item that this one is, where a person made that."""
    number: int = connection.execute(
        insert(verdicts).returning(verdicts.c.id),
        {
            "tenant": held.tenant,
            "item_id": held.item_id,
            "job_id": held.id,
            "policy_version": held.policy_version,
            "models": model_set(verdict.models),
            "status": verdict.status.value,
            "decision": verdict.decision.value,
            "decided_by": verdict.decided_by,
            "lists": lists,
            "passed_from": passed_from,
            "body": dump_verdict(verdict),
            "created": now,
        },
    ).scalar_one()
    labels = unique([reason.label for reason in verdict.reasons])
    if labels:
        rows = [{"verdict_id": number, "label": x, "tenant": held.tenant} for x in labels]
        connection.execute(insert(verdict_label), rows)
    connection.execute(
        update(item)
        .where(item.c.id == held.item_id)
        .values(
            current_verdict=number,
            decision=verdict.decision.value,
            status=verdict.status.value,
        )
    )
    if verdict.decided_by != "person":
        note_verdict(connection, held.tenant, held.item_id, held.id, verdict, now, drawn=drawn)
    return number


def announce(connection: Connection, held: OpenJob, verdict: Verdict, now: datetime) -> None:
    """Tells of the verdict in force by callback and event. Nothing may follow it in the transaction
    but its commit."""
    if held.callback_url is not None:
        connection.execute(insert(outbox), _callback(held, verdict, now))
    append(
        connection,
        tenant=held.tenant,
        kind="item.decided",
        item_id=held.item_id,
        data={
            "item_id": held.item_id,
            "job_id": held.id,
            "status": verdict.status.value,
            "decision": verdict.decision.value,
            "decided_by": verdict.decided_by,
        },
        now=now,
    )


def store_results(connection: Connection, held: OpenJob, finished: Finished, now: datetime) -> None:
    """Scores, embeddings and what was learnt of the medium, with links to its copies."""
    learnt = {
        name: value
        for name, value in (
            ("pdq", finished.pdq),
            ("pdq_quality", finished.pdq_quality),
            ("width", finished.width),
            ("height", finished.height),
            ("duration_s", finished.duration_s),
        )
        if value is not None
    }
    if learnt:
        connection.execute(update(media).where(media.c.id == held.media_id).values(learnt))
    if finished.lists is not None:
        connection.execute(update(job).where(job.c.id == held.id).values(lists=finished.lists))
    if finished.duration_s is not None and finished.hashes:
        duration_s, hashes = finished.duration_s, finished.hashes
        remember(connection, held.tenant, held.media_id, duration_s, hashes, now)
    packed = finished.scores
    if packed is not None:
        # Of a deleted item with the same bytes, or of an analysis before: these are newer.
        mine = (scores.c.job_id == held.id, scores.c.models == model_set(packed.models))
        connection.execute(delete(scores).where(*mine))
        connection.execute(
            insert(scores),
            {
                "job_id": held.id,
                "tenant": held.tenant,
                "media_id": held.media_id,
                "created": now,
                **dump_scores(packed),
            },
        )
    if finished.embedding is None or finished.encoder is None:
        return
    vectors = finished.embedding.reshape(-1, finished.embedding.shape[-1])
    for frame, vector in enumerate(vectors):
        row: dict[str, Any] = {
            "media_id": held.media_id,
            "encoder": finished.encoder,
            "frame": frame,
            "tenant": held.tenant,
            "job_id": held.id,
            "vector": pack_f16(vector),
            "created": now,
        }
        # The same bytes under the same encoder: the vector that is there is this one.
        insert_new(connection, embedding, row, ["media_id", "encoder", "frame"])


def undecided(
    connection: Connection, held: OpenJob, status: Status, *, code: str, detail: str
) -> Verdict:
    """The verdict of a job that nothing was seen of: `on_failure` of its policy decides."""
    policy = policy_of(connection, held.policy_version)
    title = code.replace("_", " ").capitalize()
    problem = Problem(title=title, status=503, code=code, detail=detail)
    outcome = decide_failure(policy, problem)
    return Verdict(
        id=held.item_id,
        job_id=held.id,
        source=held.source,
        data_id=held.data_id,
        status=status,
        decision=outcome.decision,
        reasons=list(outcome.reasons),
        coverage=Coverage(frames_total=0, frames_scored=0, complete=False),
        policy=policy.ref,
        error=problem,
    )


def cancelled(connection: Connection, held: OpenJob) -> Verdict:
    """The verdict of a job that its owner's tenant has called off."""
    return undecided(
        connection,
        held,
        Status.CANCELLED,
        code="cancelled",
        detail="The job was cancelled before it ended.",
    )


def policy_of(connection: Connection, row_id: str) -> Policy:
    """The policy as it was when the job was made."""
    query = select(policy_version.c.body).where(policy_version.c.id == row_id)
    return load_policy(connection.execute(query).scalar_one())


def send_task_again(connection: Connection, job_ids: list[str], due: datetime) -> None:
    """Makes the tasks of these queued jobs due for publishing at `due`."""
    connection.execute(
        update(outbox)
        .where(outbox.c.kind == "task", outbox.c.job_id.in_(job_ids))
        .values(state="pending", due=due, sent=None, attempts=0)
    )


def _callback(held: OpenJob, verdict: Verdict, now: datetime) -> dict[str, Any]:
    return {
        "id": new_id("out"),
        "tenant": held.tenant,
        "kind": "callback",
        "event_id": new_id("evt"),
        "job_id": held.id,
        "target": held.callback_url,
        "payload": {"type": "item.decided", "timestamp": iso(now), "data": verdict.to_json()},
        "state": "pending",
        "attempts": 0,
        "due": now,
        "created": now,
    }
