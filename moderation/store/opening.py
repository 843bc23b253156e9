"""How an item begins: the row of its medium, its own, and its job's."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, insert

from moderation.ids import new_id
from moderation.store.ending import OpenJob
from moderation.store.records import NewMedia
from moderation.store.tables import item, job, media
from moderation.store.upsert import upsert


def keep_media(connection: Connection, tenant: str, new: NewMedia, now: datetime) -> str:
    """The medium's id: a new one, or that of the same bytes, with one more reference.

    The bytes are stored already, and were reclaimed (`deletion.reclaim`) in this transaction.
    """
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
