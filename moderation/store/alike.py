"""What waits and looks like an item: pictures by PDQ, films by their fingerprints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, select

from moderation.errors import NotFoundError
from moderation.hash_index import MAX_DISTANCE, HashIndex
from moderation.known import MIN_QUALITY
from moderation.store import fingerprints
from moderation.store.engine import Database
from moderation.store.review_records import ReviewState
from moderation.store.review_tables import review
from moderation.store.tables import item, media

COMPARED: Final = 20_000
"""Pictures that wait, the newest ones, are compared: a few milliseconds."""


@dataclass(frozen=True, slots=True)
class Alike:
    """An item that waits and looks the same. likeness: 0..1; of pictures, the share of equal bits
    of their PDQ hashes; of films, the share of frames."""

    item_id: str
    likeness: float


def waiting_like(db: Database, tenant: str, item_id: str, *, limit: int = 50) -> list[Alike]:
    """The likest first; the item itself is left out, and so are plain pictures, which all look the
    same. Raises NotFoundError, StoreError."""
    query = (
        select(item.c.media_id, media.c.kind, media.c.pdq, media.c.pdq_quality)
        .join(media, media.c.id == item.c.media_id)
        .where(item.c.id == item_id, item.c.tenant == tenant)
    )
    with db.connect() as connection:
        own = connection.execute(query).one_or_none()
        if own is None:
            raise NotFoundError(f"There is no item {item_id}.")
        if own.kind == "image":
            if own.pdq is None or (own.pdq_quality or 0) < MIN_QUALITY:
                return []
            return _pictures(connection, tenant, item_id, own.pdq)[:limit]
    likest = {one.item_id: one.share for one in fingerprints.similar(db, tenant, own.media_id)}
    with db.connect() as connection:
        return _waiting(connection, tenant, likest)[:limit]


def _pictures(connection: Connection, tenant: str, item_id: str, pdq: str) -> list[Alike]:
    query = (
        select(review.c.item_id, media.c.pdq)
        .join(item, item.c.id == review.c.item_id)
        .join(media, media.c.id == item.c.media_id)
        .where(
            review.c.tenant == tenant,
            review.c.state == ReviewState.OPEN.value,
            review.c.item_id != item_id,
            media.c.kind == "image",
            media.c.pdq.is_not(None),
            media.c.pdq_quality >= MIN_QUALITY,
        )
        .order_by(review.c.item_id.desc())
        .limit(COMPARED)
    )
    rows = connection.execute(query).all()
    index = HashIndex(b"".join(bytes.fromhex(row.pdq) for row in rows))
    places, bits = index.within(bytes.fromhex(pdq), MAX_DISTANCE)
    found = [
        Alike(rows[int(place)].item_id, 1 - int(n) / 256)
        for place, n in zip(places, bits, strict=True)
    ]
    return sorted(found, key=lambda one: (-one.likeness, one.item_id))


def _waiting(connection: Connection, tenant: str, likest: dict[str, float]) -> list[Alike]:
    """Those of the items that wait."""
    query = select(review.c.item_id).where(
        review.c.tenant == tenant,
        review.c.state == ReviewState.OPEN.value,
        review.c.item_id.in_(list(likest)),
    )
    waits = set(connection.execute(query).scalars())
    return [Alike(key, share) for key, share in likest.items() if key in waits]
