"""The row of a medium: one for the same bytes of a tenant, however often they come."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, func

from moderation.ids import new_id
from moderation.store.records import NewMedia
from moderation.store.tables import media
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
