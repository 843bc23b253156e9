"""How an item begins: the row of its medium, its own, and its job's.

Whoever makes the row of a medium and whoever deletes it take turns on that row, and only then on
that of a removal of its bytes (`deletion`): in the other order the two would wait for each other.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, insert

from moderation.blobs import BlobStore
from moderation.ids import new_id
from moderation.store.codec import clock
from moderation.store.deletion import let_go, reclaim, remove
from moderation.store.ending import OpenJob
from moderation.store.engine import Database
from moderation.store.followers import HELD
from moderation.store.records import NewMedia
from moderation.store.tables import item, job, media, outbox
from moderation.store.upsert import upsert


def keep_media(
    connection: Connection, tenant: str, new: NewMedia, now: datetime, *, restored: str | None
) -> str:
    """The medium's id: a new one, or that of the same bytes, with one more reference.

    The bytes are stored already. restored: the removal after which the caller has stored them
    again. Raises BytesRemovedError for another one: then the transaction has to be undone.
    """
    media_id = _refer(connection, tenant, new, now)
    reclaim(connection, new.blob_key, known=restored)
    return media_id


def discard(
    db: Database, blobs: BlobStore, tenant: str, new: NewMedia, *, now: datetime | None = None
) -> None:
    """Bytes that were stored for an item which will not begin are removed, unless other items have
    the same. Raises BlobError and StoreError: the sweep will try again after the first."""
    moment = clock(now)
    with db.begin() as connection:
        # By way of the row, so that it takes turns with whoever begins with the same bytes.
        media_id = _refer(connection, tenant, new, moment)
        removals = let_go(connection, media_id, moment)
    for removal in removals:
        remove(db, blobs, removal, now=moment)


def _refer(connection: Connection, tenant: str, new: NewMedia, now: datetime) -> str:
    row = {
        "id": new_id("media"),
        "tenant": tenant,
        "sha256": new.sha256,
        "kind": new.kind,
        "format": new.format,
        "size": new.size,
        "width": new.width,
        "height": new.height,
        "duration_s": new.duration_s,
        "blob_key": new.blob_key,
        "refs": 1,
        "created": now,
    }
    changes = {
        "refs": media.c.refs + 1,
        "width": func.coalesce(media.c.width, new.width),
        "height": func.coalesce(media.c.height, new.height),
        "duration_s": func.coalesce(media.c.duration_s, new.duration_s),
    }
    return upsert(connection, media, row, ["tenant", "sha256"], changes)


def insert_item(
    connection: Connection,
    new: OpenJob,
    *,
    kind: str,
    models: str | None,
    now: datetime,
    stream_id: str | None = None,
    **job_values: Any,
) -> None:
    """Inserts an item and its job. kind: the job's. models: of its verdict, where that is known
    already. job_values: further columns of the job."""
    connection.execute(
        insert(item),
        {
            "id": new.item_id,
            "tenant": new.tenant,
            "media_id": new.media_id,
            "job_id": new.id,
            "stream_id": stream_id,
            "source": new.source,
            "data_id": new.data_id,
            "created": now,
        },
    )
    row = {
        "id": new.id,
        "tenant": new.tenant,
        "item_id": new.item_id,
        "kind": kind,
        "state": new.state.value,
        "attempt": new.attempt,
        "priority": 0,
        "policy_version": new.policy_version,
        "models": models,
        "callback_url": new.callback_url,
        "cancel_requested": False,
        "created": now,
        "queued": now,
        "updated": now,
        "ended": now if new.state.ended else None,
    }
    connection.execute(insert(job), row | job_values)


def insert_task(
    connection: Connection,
    held: OpenJob,
    kind: str,
    leader: str | None,
    *,
    due: datetime,
    now: datetime,
) -> None:
    """The job's task, to be published at `due`; held back as long as it follows a `leader`."""
    payload = {"job_id": held.id, "kind": kind}
    connection.execute(
        insert(outbox),
        {
            "id": new_id("out"),
            "tenant": held.tenant,
            "kind": "task",
            "event_id": new_id("evt"),
            "job_id": held.id,
            "payload": payload if leader is None else payload | {"follows": leader},
            "state": "pending" if leader is None else HELD,
            "attempts": 0,
            "due": due,
            "created": now,
        },
    )
