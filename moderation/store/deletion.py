"""An item leaves: its rows in one transaction, then the bytes that nobody refers to any more.

The transaction also writes down which bytes have to go (`outbox`, kind "blob"), so that a crash
between the two leaves bytes without a row, never a row without bytes, and a sweep removes them.
Pictures that were made of them have a row of their own: should the same bytes come again, those
stay, under another medium, and the pictures go all the same.

Bytes are stored before their row is. So whoever has made the row of a medium takes turns with the
removal of its bytes on that outbox row, and learns from it whether the bytes that it has just
stored may be gone (`reclaim`).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, and_, delete, exists, insert, or_, select, update

from moderation.blobs import BlobStore
from moderation.errors import ConflictError, NotFoundError, ServiceError
from moderation.ids import new_id
from moderation.store.codec import clock
from moderation.store.engine import Database
from moderation.store.events import append
from moderation.store.followers import HELD
from moderation.store.records import JobState
from moderation.store.tables import (
    alert,
    audit,
    chunk,
    derivative,
    embedding,
    fingerprint,
    idempotency,
    item,
    job,
    likeness,
    media,
    outbox,
    review,
    review_decision,
    scores,
    verdict_label,
)
from moderation.store.tables import verdict as verdicts
from moderation.store.upsert import insert_new

log = logging.getLogger(__name__)

BLOB = "blob"
VIDEO = "video"
FORGET_AFTER = timedelta(hours=3)
"""How long a removal is remembered: longer than any upload takes from its last byte to its row,
and than any derivative is in the making."""


@dataclass(frozen=True, slots=True)
class Deleted:
    """removals: ids of what has to be done with the media store; none where somebody else refers
    to the same bytes."""

    removals: tuple[str, ...]


def delete_item(
    db: Database, tenant: str, item_id: str, *, actor: str, now: datetime | None = None
) -> Deleted:
    """Deletes an item with everything that was found of it. The audit keeps that it was done.

    Scores and embeddings of bytes that another item shares go over to that one. Raises
    NotFoundError, ConflictError (job_running: cancel it first), StoreError.
    """
    moment = clock(now)
    with db.begin() as connection:
        query = select(item.c.media_id, item.c.created).where(
            item.c.id == item_id, item.c.tenant == tenant
        )
        found = connection.execute(query).one_or_none()
        # Before the job: in that order an alert that becomes graver locks them too.
        connection.execute(
            update(alert)
            .where(alert.c.item_id == item_id, alert.c.tenant == tenant)
            .values(item_id=None, evidence={})
        )
        jobs, others = _lock_jobs(connection, item_id, found.media_id) if found else ([], [])
        # Whoever deleted the same item was waited for just now.
        if found is None or not jobs:
            raise NotFoundError(f"There is no item {item_id}.")
        if others:
            _hand_over(connection, jobs, others[0])
        _free_followers(connection, jobs, moment)
        _delete_of_jobs(connection, jobs)
        connection.execute(
            delete(idempotency).where(
                idempotency.c.created == found.created, idempotency.c.item_id == item_id
            )
        )
        labels = select(verdicts.c.id).where(verdicts.c.item_id == item_id)
        connection.execute(delete(verdict_label).where(verdict_label.c.verdict_id.in_(labels)))
        connection.execute(delete(verdicts).where(verdicts.c.item_id == item_id))
        for table in (review, review_decision):
            connection.execute(delete(table).where(table.c.item_id == item_id))
        connection.execute(delete(job).where(job.c.item_id == item_id))
        connection.execute(delete(item).where(item.c.id == item_id))
        removals = let_go(connection, found.media_id, moment)
        connection.execute(
            insert(audit).values(
                tenant=tenant,
                actor=actor,
                action="item.delete",
                target=item_id,
                detail={"media_id": found.media_id, "bytes": bool(removals)},
                created=moment,
            )
        )
        data = {"item_id": item_id}
        append(
            connection, tenant=tenant, kind="item.deleted", item_id=item_id, data=data, now=moment
        )
    return Deleted(removals)


def remove(db: Database, blobs: BlobStore, removal: str, *, now: datetime | None = None) -> bool:
    """Remove what `delete_item` wrote down, unless it was stored anew meanwhile; whether it is
    gone. Raises BlobError and StoreError: the sweep will try again."""
    moment = clock(now)
    with db.begin() as connection:
        query = (
            select(outbox)
            .where(outbox.c.id == removal, outbox.c.kind == BLOB, outbox.c.state == "pending")
            .with_for_update()
        )
        row = connection.execute(query).one_or_none()
        if row is None:
            return False
        # Under the lock of that row, see `reclaim`: nobody makes a row for these bytes now.
        # Rows that were written before pictures had their own are of both.
        derived = row.payload.get("derived")
        if row.target != derived:
            blobs.delete(row.target)
        if derived is not None:
            blobs.delete_below(derived)
        connection.execute(
            update(outbox)
            .where(outbox.c.id == removal)
            .values(state="sent", sent=moment, due=moment + FORGET_AFTER)
        )
    return True


def sweep_removals(
    db: Database, blobs: BlobStore, *, limit: int = 50, now: datetime | None = None
) -> int:
    """Remove what a crash or a store that was away has left, and forget what was removed long
    ago; how many. Errors are logged: the next sweep tries again."""
    moment = clock(now)
    query = (
        select(outbox.c.id, outbox.c.state, outbox.c.payload)
        .where(
            outbox.c.kind == BLOB,
            outbox.c.due <= moment,
            outbox.c.state.in_(("pending", "sent")),
        )
        .order_by(outbox.c.due)
        .limit(limit)
    )
    with db.connect() as connection:
        rows = connection.execute(query).all()
    done = 0
    for row in rows:
        try:
            if row.state == "pending":
                done += remove(db, blobs, row.id, now=moment)
            else:
                if "derived" in row.payload:
                    # Whoever was making a picture of it then has put it down by now.
                    blobs.delete_below(row.payload["derived"])
                with db.begin() as connection:
                    forgotten = and_(outbox.c.id == row.id, outbox.c.state == "sent")
                    done += connection.execute(delete(outbox).where(forgotten)).rowcount
        except ServiceError as error:
            log.warning("bytes of a deleted item are not removed yet: %s", error)
    return done


class BytesRemovedError(ServiceError):
    """The bytes may have been removed after they were stored: they have to be stored once more.
    `removal` names the removal."""

    code = "media_removed"

    def __init__(self, removal: str) -> None:
        super().__init__("The bytes were being deleted; send them again.")
        self.removal = removal


def reclaim(connection: Connection, blob_key: str, *, known: str | None = None) -> None:
    """Called in the transaction that makes the row of a medium, after that row (a deletion of the
    same medium was waited for there, and what it wrote down is seen here): the bytes that lie
    under this key stay.

    known: the removal after which the caller has stored them (again). Raises BytesRemovedError
    for another one: that may have come between the storing and this transaction.
    """
    mine = outbox.c.id == removal_id(blob_key)
    query = select(outbox.c.state, outbox.c.event_id).where(mine).with_for_update()
    row = connection.execute(query).one_or_none()
    if row is None:
        return
    if row.state != "pending" and row.event_id != known:
        raise BytesRemovedError(row.event_id)
    connection.execute(delete(outbox).where(mine))


def removal_id(target: str) -> str:
    """Made from the key of a blob, or the folder: one removal each, found without a search."""
    return f"blob_{hashlib.sha256(target.encode()).hexdigest()[:32]}"


def _lock_jobs(connection: Connection, item_id: str, media_id: str) -> tuple[list[str], list[str]]:
    """The item's jobs, and those of other items with the same bytes. All are locked, in one
    order: two deletions that would hand over to each other take turns, and nobody claims what
    goes. Raises ConflictError."""
    query = (
        select(job.c.id, job.c.item_id, job.c.state)
        .join(item, item.c.id == job.c.item_id)
        .where(item.c.media_id == media_id)
        .order_by(job.c.id)
        .with_for_update(of=job)
    )
    rows = connection.execute(query).all()
    own = [row for row in rows if row.item_id == item_id]
    if any(row.state == JobState.RUNNING.value for row in own):
        raise ConflictError(
            "The item is being analysed: cancel its job, or wait for it.", code="job_running"
        )
    return [row.id for row in own], [row.id for row in rows if row.item_id != item_id]


def _hand_over(connection: Connection, jobs: Sequence[str], heir: str) -> None:
    """What was found of the bytes stays while another item shares them, under a job of that."""
    connection.execute(update(embedding).where(embedding.c.job_id.in_(jobs)).values(job_id=heir))
    known = scores.alias()
    has_its_own = exists().where(known.c.job_id == heir, known.c.models == scores.c.models)
    connection.execute(
        update(scores).where(scores.c.job_id.in_(jobs), ~has_its_own).values(job_id=heir)
    )


def _free_followers(connection: Connection, jobs: Sequence[str], now: datetime) -> None:
    """Whoever waits for the answer of a job that goes has to find its own: the first of them
    becomes a job like any other, and the others wait for that one."""
    query = (
        select(outbox.c.id, outbox.c.job_id)
        .where(
            outbox.c.kind == "task",
            outbox.c.state == HELD,
            outbox.c.payload["follows"].as_string().in_(jobs),
        )
        .order_by(outbox.c.id)
    )
    first: str | None = None
    for row in connection.execute(query).all():
        payload = {"job_id": row.job_id, "kind": VIDEO}
        changes: dict[str, Any] = {"payload": payload, "state": "pending", "due": now}
        if first is not None:
            changes = {"payload": {**payload, "follows": first}}
        connection.execute(update(outbox).where(outbox.c.id == row.id).values(changes))
        first = first or row.job_id


def _delete_of_jobs(connection: Connection, jobs: Sequence[str]) -> None:
    for table in (chunk, scores, embedding):
        connection.execute(delete(table).where(table.c.job_id.in_(jobs)))
    # Callbacks too: they carry the verdict.
    connection.execute(delete(outbox).where(outbox.c.job_id.in_(jobs)))


def let_go(connection: Connection, media_id: str, now: datetime) -> tuple[str, ...]:
    """One reference less; with the last one the medium goes, and its bytes and what was made of
    them are written down: ids of the removals."""
    left = connection.execute(
        update(media)
        .where(media.c.id == media_id)
        .values(refs=media.c.refs - 1)
        .returning(media.c.refs, media.c.tenant, media.c.blob_key)
    ).one()
    if left.refs > 0:
        return ()
    connection.execute(
        delete(likeness).where(
            or_(likeness.c.media_id == media_id, likeness.c.other_id == media_id)
        )
    )
    for table in (fingerprint, embedding, scores):
        connection.execute(delete(table).where(table.c.media_id == media_id))
    wanted = connection.execute(delete(derivative).where(derivative.c.media_id == media_id))
    connection.execute(delete(media).where(media.c.id == media_id))
    of_bytes = _write_down(connection, left.tenant, left.blob_key, {}, now)
    if not wanted.rowcount:
        return (of_bytes,)
    folder = f"derived/{left.tenant}/{media_id}"
    return of_bytes, _write_down(connection, left.tenant, folder, {"derived": folder}, now)


def _write_down(
    connection: Connection, tenant: str, target: str, payload: Mapping[str, str], now: datetime
) -> str:
    removal = removal_id(target)
    row = {
        "id": removal,
        "tenant": tenant,
        "kind": BLOB,
        "event_id": new_id("evt"),
        "target": target,
        "payload": payload,
        "state": "pending",
        "attempts": 0,
        "due": now,
        "created": now,
    }
    if not insert_new(connection, outbox, row, ["id"]):
        # The same bytes were removed before, and that is still remembered.
        connection.execute(update(outbox).where(outbox.c.id == removal).values(row))
    return removal
