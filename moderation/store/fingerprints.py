"""Which videos of a tenant show the same: fingerprints, and the links between them.

A link is made once, when the later of two videos has been looked at, and read from either side.
Of two that end at the same moment, PostgreSQL shows neither to the other: they stay unlinked.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, RowMapping, case, func, insert, or_, select

from moderation.fingerprint import SHARE, Fingerprint, HashedFrame, Match, compare
from moderation.store.engine import Database
from moderation.store.tables import fingerprint, item, likeness
from moderation.store.upsert import insert_new
from moderation.types import Decision

LONGER = 0.05
LONGER_S = 3.0
MOST_LONGER_S = 60.0
"""A copy may be longer or shorter by so much: a part of the length, but at least 3 s, at most a
minute. Titles are put in front of a film, and its end is cut."""
CANDIDATES = 50
"""Videos that one is compared with, those nearest in length first: it happens while the verdict
is written. A comparison takes about a millisecond."""
LINKS = 20
"""Links that one video is given, and items that are shown for one: the best."""


@dataclass(frozen=True, slots=True)
class SimilarItem:
    """The latest submission of another video that shows the same. share: 0..1 of the frames.
    decision: None while it has none."""

    item_id: str
    share: float
    decision: Decision | None


def remember(
    connection: Connection,
    tenant: str,
    media_id: str,
    duration_s: float,
    hashes: Iterable[HashedFrame],
    now: datetime,
) -> int:
    """Keeps the fingerprint of a video and links it to earlier ones that show the same.

    hashes: of the frames that were looked at, in any order. Returns how many links were made:
    none for a video that has its fingerprint already. Raises ValueError for a broken hash.
    """
    own = Fingerprint.of(hashes)
    row = {
        "media_id": media_id,
        "tenant": tenant,
        "duration_s": duration_s,
        "frames": len(own),
        "hashes": own.hashes,
        "times": own.times_packed,
        "created": now,
    }
    if not insert_new(connection, fingerprint, row, ["media_id"]):
        return 0
    shift_s = _longer_s(duration_s)
    alike: list[tuple[Match, str]] = []
    for other in _candidates(connection, tenant, media_id, duration_s, shift_s):
        earlier = Fingerprint.load(other["hashes"], other["times"])
        match = compare(own, earlier, max_shift_s=shift_s)
        if match.share >= SHARE:
            alike.append((match, other["media_id"]))
    best = sorted(alike, key=lambda one: -one[0].share)[:LINKS]
    if best:
        rows = [
            {
                "media_id": media_id,
                "other_id": other_id,
                "tenant": tenant,
                "share": match.share,
                "created": now,
            }
            for match, other_id in best
        ]
        connection.execute(insert(likeness), rows)
    return len(best)


def similar(db: Database, tenant: str, media_id: str) -> tuple[SimilarItem, ...]:
    """The latest item of each other video that shows the same, the likest first."""
    other = case((likeness.c.media_id == media_id, likeness.c.other_id), else_=likeness.c.media_id)
    linked = (
        select(other.label("media_id"), likeness.c.share)
        .where(
            likeness.c.tenant == tenant,
            or_(likeness.c.media_id == media_id, likeness.c.other_id == media_id),
        )
        .order_by(likeness.c.share.desc())
        .limit(LINKS)
        .subquery()
    )
    latest = (
        select(func.max(item.c.id).label("id"), linked.c.share)
        .join(linked, linked.c.media_id == item.c.media_id)
        .where(item.c.tenant == tenant)
        .group_by(linked.c.media_id, linked.c.share)
        .subquery()
    )
    query = (
        select(item.c.id, latest.c.share, item.c.decision)
        .join(latest, latest.c.id == item.c.id)
        .order_by(latest.c.share.desc(), item.c.id)
    )
    with db.connect() as connection:
        rows = connection.execute(query).all()
    return tuple(
        SimilarItem(item_id, share, None if decision is None else Decision(decision))
        for item_id, share, decision in rows
    )


def _longer_s(duration_s: float) -> float:
    return min(max(LONGER_S, LONGER * duration_s), MOST_LONGER_S)


def _candidates(
    connection: Connection, tenant: str, media_id: str, duration_s: float, longer_s: float
) -> Iterable[RowMapping]:
    """Earlier fingerprints of about the same length, the nearest first."""
    query = (
        select(fingerprint.c.media_id, fingerprint.c.hashes, fingerprint.c.times)
        .where(
            fingerprint.c.tenant == tenant,
            fingerprint.c.duration_s.between(duration_s - longer_s, duration_s + longer_s),
            fingerprint.c.media_id != media_id,
        )
        .order_by(func.abs(fingerprint.c.duration_s - duration_s), fingerprint.c.media_id.desc())
        .limit(CANDIDATES)
    )
    return connection.execute(query).mappings()
