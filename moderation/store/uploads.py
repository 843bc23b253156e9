"""Files that come in pieces: which of their bytes are there, and where they lie.

The pieces are blobs, so that any gateway may take the next one. An upload moves on by comparing
and setting its offset: of two pieces for the same place one is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import delete, func, insert, select, update

from moderation.blobs import BlobStore
from moderation.errors import ConflictError, LimitError, NotFoundError, OverloadedError
from moderation.ids import new_id
from moderation.store.codec import clock
from moderation.store.engine import Database
from moderation.store.tables import upload, upload_part

MAX_PARTS: Final = 20_000
"""Of one upload: each costs a request to the media store when they are joined."""


@dataclass(frozen=True, slots=True)
class UploadRow:
    """An upload of which the first `received` of `length` bytes are there. metadata: what its
    client told of it, by name, in base64."""

    id: str
    tenant: str
    length: int
    received: int
    metadata: dict[str, str]
    expires: datetime
    created: datetime

    @property
    def complete(self) -> bool:
        return self.received == self.length


@dataclass(frozen=True, slots=True)
class Part:
    """A piece: `size` bytes of the upload from `start` on."""

    start: int
    size: int
    blob_key: str


def create(
    db: Database,
    tenant: str,
    *,
    length: int,
    metadata: dict[str, str],
    expires: datetime,
    room: int,
    now: datetime | None = None,
) -> UploadRow:
    """A new upload. Raises OverloadedError when the tenant's unfinished ones would announce more
    than `room` bytes together; StoreError."""
    moment = clock(now)
    row = UploadRow(new_id("upload"), tenant, length, 0, metadata, expires, moment)
    announced = select(func.coalesce(func.sum(upload.c.length), 0)).where(
        upload.c.tenant == tenant, upload.c.expires > moment
    )
    with db.begin() as connection:
        if connection.execute(announced).scalar_one() + length > room:
            raise OverloadedError("Too many uploads are unfinished; end or delete some.")
        connection.execute(
            insert(upload),
            {
                "id": row.id,
                "tenant": tenant,
                "length": length,
                "received": 0,
                "metadata": metadata,
                "expires": expires,
                "created": moment,
            },
        )
    return row


def get(db: Database, tenant: str, upload_id: str, *, now: datetime | None = None) -> UploadRow:
    """Raises NotFoundError, also for another tenant's and for one that has expired; StoreError."""
    query = select(upload).where(
        upload.c.id == upload_id, upload.c.tenant == tenant, upload.c.expires > clock(now)
    )
    with db.connect() as connection:
        row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise NotFoundError(f"There is no upload {upload_id}.")
    return UploadRow(**row)


def append(
    db: Database,
    row: UploadRow,
    part: Part,
    *,
    expires: datetime,
    now: datetime | None = None,
) -> UploadRow:
    """The upload with one more piece, whose blob is stored already.

    Raises ConflictError (upload_offset) when it does not begin where the upload ends by now,
    NotFoundError when there is no such upload any more, LimitError (too_many_parts), StoreError.
    Nothing is changed then.
    """
    end = part.start + part.size
    move = (
        update(upload)
        .where(
            upload.c.id == row.id,
            upload.c.tenant == row.tenant,
            upload.c.expires > clock(now),
            upload.c.received == part.start,
            upload.c.length >= end,
        )
        .values(received=end, expires=expires)
        .returning(upload)
    )
    with db.begin() as connection:
        moved = connection.execute(move).mappings().one_or_none()
        if moved is not None:
            pieces = select(func.count()).where(upload_part.c.upload_id == row.id)
            if connection.execute(pieces).scalar_one() >= MAX_PARTS:
                raise LimitError(
                    f"The upload came in {MAX_PARTS} pieces already; send larger ones.",
                    code="too_many_parts",
                )
            connection.execute(
                insert(upload_part),
                {
                    "upload_id": row.id,
                    "start": part.start,
                    "size": part.size,
                    "blob_key": part.blob_key,
                },
            )
            return UploadRow(**moved)
    raise misplaced(get(db, row.tenant, row.id, now=now))


def misplaced(row: UploadRow) -> ConflictError:
    """The error for a piece that does not begin where the upload ends."""
    return ConflictError(f"The upload goes on at {row.received}.", code="upload_offset")


def parts(db: Database, upload_id: str) -> list[Part]:
    """Its pieces in order, without gaps. Raises StoreError."""
    query = (
        select(upload_part.c.start, upload_part.c.size, upload_part.c.blob_key)
        .where(upload_part.c.upload_id == upload_id)
        .order_by(upload_part.c.start)
    )
    with db.connect() as connection:
        return [Part(*row) for row in connection.execute(query)]


def part_key(upload_id: str, start: int) -> str:
    """A new key for a piece: two that come for the same place do not meet."""
    return f"{_folder(upload_id)}/{start}-{new_id('part')}"


def discard(db: Database, blobs: BlobStore, upload_id: str, *, now: datetime | None = None) -> None:
    """Delete an upload, which may have gone already, with all its bytes.

    It expires first, then go the bytes, then the rows: what a crash leaves is pruned later.
    Raises StoreError, BlobError.
    """
    moment = clock(now)
    with db.begin() as connection:
        connection.execute(
            update(upload)
            .where(upload.c.id == upload_id, upload.c.expires > moment)
            .values(expires=moment)
        )
    blobs.delete_below(_folder(upload_id))
    with db.begin() as connection:
        connection.execute(delete(upload_part).where(upload_part.c.upload_id == upload_id))
        connection.execute(delete(upload).where(upload.c.id == upload_id))


def prune(db: Database, blobs: BlobStore, *, limit: int = 100, now: datetime | None = None) -> int:
    """Delete at most `limit` expired uploads; how many. Raises StoreError, BlobError."""
    query = (
        select(upload.c.id)
        .where(upload.c.expires <= clock(now))
        .order_by(upload.c.expires)
        .limit(limit)
    )
    with db.connect() as connection:
        old = list(connection.execute(query).scalars())
    for upload_id in old:
        discard(db, blobs, upload_id, now=now)
    return len(old)


def _folder(upload_id: str) -> str:
    return f"uploads/{upload_id}"
