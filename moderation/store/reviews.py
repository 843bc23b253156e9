"""The queue of what needs a person: in order, filtered, claimed so that nobody works twice.

Passes that were drawn for an audit come last, and are counted apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    RowMapping,
    Select,
    and_,
    case,
    func,
    or_,
    select,
    tuple_,
    update,
)

from moderation.errors import ConflictError, NotFoundError
from moderation.store.codec import clock
from moderation.store.engine import Database
from moderation.store.review_entry import AUDIT_RANK, source_key
from moderation.store.review_records import ReviewFilter, ReviewRow, ReviewState
from moderation.store.review_tables import review
from moderation.store.tables import item, media, policy_version
from moderation.store.tables import verdict as verdicts

CLAIM: Final = timedelta(minutes=5)
"""An item that somebody claimed and left is free for others after so long."""
_ORDER = (review.c.rank, review.c.due, review.c.item_id)


@dataclass(frozen=True, slots=True)
class QueuePage:
    """In the queue's order. next_after: the item after which the next page begins; None: none."""

    rows: tuple[ReviewRow, ...]
    next_after: str | None


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """Of open ones. by_label: under "" those without a label. mine: those that one has claimed.
    audits: those that need a person for an audit alone; `open`, `by_label` and `oldest` leave them
    out. One that was escalated is no such."""

    open: int
    escalated: int
    mine: int
    by_label: Mapping[str, int]
    oldest: datetime | None
    audits: int = 0


def queue(
    db: Database, tenant: str, flt: ReviewFilter, *, limit: int = 50, after: str | None = None
) -> QueuePage:
    """A page of the queue, or of what was decided. Raises NotFoundError for an unknown `after`,
    StoreError."""
    with db.connect() as connection:
        query = _matching(tenant, flt)
        if after is not None:
            query = query.where(_behind(connection, tenant, after))
        query = query.order_by(*_ORDER).limit(limit + 1)
        rows = [_row(found) for found in connection.execute(query).mappings()]
    more = len(rows) > limit
    return QueuePage(tuple(rows[:limit]), rows[limit - 1].item_id if more else None)


def counts(db: Database, tenant: str, actor: str, *, now: datetime | None = None) -> QueueCounts:
    """Raises StoreError."""
    moment = clock(now)
    is_open = (review.c.tenant == tenant, review.c.state == ReviewState.OPEN.value)
    by_label = (
        select(
            review.c.label,
            func.count().label("n"),
            func.sum(case((review.c.escalated, 1), else_=0)).label("escalated"),
            func.min(review.c.created).label("oldest"),
        )
        # By the rank, which the index of labels has: an audit that was escalated has another.
        .where(*is_open, review.c.rank < AUDIT_RANK)
        .group_by(review.c.label)
    )
    for_audit = (*is_open, review.c.audit.is_(True), review.c.rank == AUDIT_RANK)
    # By the actor alone, who is of one tenant: SQLite would else walk all that is open.
    mine = (review.c.claimed_by == actor, review.c.claim_until > moment)
    with db.connect() as connection:
        rows = connection.execute(by_label).all()
        claimed = connection.execute(select(func.count()).where(*mine)).scalar_one()
        audits = connection.execute(select(func.count()).where(*for_audit)).scalar_one()
    return QueueCounts(
        open=sum(row.n for row in rows),
        escalated=sum(row.escalated for row in rows),
        mine=claimed,
        by_label={row.label or "": row.n for row in rows},
        oldest=min((row.oldest for row in rows), default=None),
        audits=audits,
    )


def get(db: Database, tenant: str, item_id: str) -> ReviewRow | None:
    """None where the item never needed a person. Raises StoreError."""
    query = select(review).where(review.c.tenant == tenant, review.c.item_id == item_id)
    with db.connect() as connection:
        row = connection.execute(query).mappings().one_or_none()
    return None if row is None else _row(row)


def claim_next(
    db: Database,
    tenant: str,
    actor: str,
    flt: ReviewFilter,
    *,
    after: str | None = None,
    now: datetime | None = None,
) -> ReviewRow | None:
    """Claims the first open item that nobody else has; after one that was skipped, the next behind
    it, and from the beginning where there is none. None: there is nothing. Raises StoreError."""
    moment = clock(now)
    free = _matching(tenant, flt).where(
        review.c.state == ReviewState.OPEN.value, _free(actor, moment)
    )
    with db.begin() as connection:
        found = None
        if after is not None:
            behind = free.where(_behind(connection, tenant, after))
            found = _first(connection, behind)
            free = free.where(review.c.item_id != after)
        found = found or _first(connection, free)
        return None if found is None else _claim(connection, found.item_id, actor, moment)


def claim(
    db: Database,
    tenant: str,
    actor: str,
    item_id: str,
    *,
    take_over: bool = False,
    now: datetime | None = None,
) -> ReviewRow:
    """Claims one, or renews the claim. Raises NotFoundError for what does not wait, ConflictError
    (claimed) where somebody else has it and it is not to be taken over, StoreError."""
    moment = clock(now)
    with db.begin() as connection:
        row = lock(connection, tenant, item_id)
        if row is None or row.state is not ReviewState.OPEN:
            raise NotFoundError(f"{item_id} does not wait for a person.")
        if not take_over:
            refuse_claimed(row, actor, moment)
        return _claim(connection, item_id, actor, moment)


def release(db: Database, tenant: str, actor: str, item_id: str) -> bool:
    """Gives a claimed one back; whether it was the actor's. Raises StoreError."""
    with db.begin() as connection:
        mine = (
            review.c.tenant == tenant,
            review.c.item_id == item_id,
            review.c.claimed_by == actor,
        )
        freed = {"claimed_by": None, "claim_until": None, "claimed": None}
        return connection.execute(update(review).where(*mine).values(freed)).rowcount > 0


def release_all(db: Database, tenant: str, actor: str) -> int:
    """Gives back all that somebody has claimed; how many. Raises StoreError."""
    mine = (review.c.tenant == tenant, review.c.claimed_by == actor)
    freed = {"claimed_by": None, "claim_until": None, "claimed": None}
    with db.begin() as connection:
        return connection.execute(update(review).where(*mine).values(freed)).rowcount


def lock(connection: Connection, tenant: str, item_id: str) -> ReviewRow | None:
    """Locks the entry of an item; None where it has none."""
    query = (
        select(review)
        .where(review.c.tenant == tenant, review.c.item_id == item_id)
        .with_for_update()
    )
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else _row(row)


def refuse_claimed(row: ReviewRow, actor: str, now: datetime) -> None:
    """Raises ConflictError (claimed) where somebody else has it."""
    others = row.claimed_by not in (None, actor)
    if others and row.claim_until is not None and row.claim_until > now:
        raise ConflictError("Somebody else is looking at this item.", code="claimed")


def _first(connection: Connection, query: Select[Any]) -> Row[Any] | None:
    ordered = query.order_by(*_ORDER).limit(1).with_for_update(of=review, skip_locked=True)
    return connection.execute(ordered).first()


def _claim(connection: Connection, item_id: str, actor: str, now: datetime) -> ReviewRow:
    renewed = and_(review.c.claimed_by == actor, review.c.claim_until > now)
    was = select(review.c.claimed).where(review.c.item_id == item_id, renewed)
    since = connection.execute(was).scalar_one_or_none()
    changed = connection.execute(
        update(review)
        .where(review.c.item_id == item_id)
        .values(claimed_by=actor, claim_until=now + CLAIM, claimed=since or now)
        .returning(review)
    )
    return _row(changed.mappings().one())


def _free(actor: str, now: datetime) -> ColumnElement[bool]:
    return or_(
        review.c.claimed_by.is_(None), review.c.claimed_by == actor, review.c.claim_until <= now
    )


def _behind(connection: Connection, tenant: str, item_id: str) -> ColumnElement[bool]:
    """Those behind an item in the queue. Raises NotFoundError."""
    query = select(*_ORDER).where(review.c.tenant == tenant, review.c.item_id == item_id)
    at = connection.execute(query).one_or_none()
    if at is None:
        raise NotFoundError(f"There is no {item_id} in the queue.")
    # The bounds again one by one: a row value alone is not looked up in the index by SQLite.
    return and_(review.c.rank >= at.rank, tuple_(*_ORDER) > tuple_(*at))


def _matching(tenant: str, flt: ReviewFilter) -> Select[Any]:
    query = select(review).where(review.c.tenant == tenant)
    if flt.state is not None:
        query = query.where(review.c.state == flt.state.value)
    if flt.label is not None:
        query = query.where(review.c.label == flt.label)
    if flt.escalated is not None:
        query = query.where(review.c.escalated.is_(flt.escalated))
    if flt.audit is True:
        query = query.where(review.c.audit.is_(True))
    if flt.audit is False:
        # The rank, too, so that an index ends before them.
        query = query.where(review.c.audit.is_(False), review.c.rank < AUDIT_RANK)
    if flt.since is not None:
        query = query.where(review.c.created >= flt.since)
    if flt.until is not None:
        query = query.where(review.c.created < flt.until)
    if flt.scores is not None:
        query = query.where(review.c.score.between(*flt.scores))
    if flt.source is not None:
        query = query.where(review.c.source_key == source_key(flt.source))
    of_item = {
        item.c.decision: None if flt.decision is None else flt.decision.value,
        item.c.source: flt.source,
        item.c.data_id: flt.data_id,
        item.c.stream_id: flt.stream_id,
        media.c.kind: flt.kind,
        media.c.sha256: flt.sha256,
    }
    asked = {column: value for column, value in of_item.items() if value is not None}
    if not asked and flt.policy is None:
        return query
    query = query.join(item, item.c.id == review.c.item_id)
    if flt.kind is not None or flt.sha256 is not None:
        query = query.join(media, media.c.id == item.c.media_id)
    if flt.policy is not None:
        rows = select(policy_version.c.id).where(policy_version.c.ref == flt.policy)
        query = query.join(verdicts, verdicts.c.id == item.c.current_verdict)
        # Of a policy that nothing was judged by the databases see at once that there is nothing.
        query = query.where(rows.exists(), verdicts.c.policy_version.in_(rows))
    return query.where(*(column == value for column, value in asked.items()))


def _row(row: RowMapping) -> ReviewRow:
    return ReviewRow(
        item_id=row["item_id"],
        tenant=row["tenant"],
        state=ReviewState(row["state"]),
        rank=row["rank"],
        due=row["due"],
        label=row["label"],
        score=row["score"],
        escalated=bool(row["escalated"]),
        audit=bool(row["audit"]),
        claimed_by=row["claimed_by"],
        claim_until=row["claim_until"],
        created=row["created"],
    )
