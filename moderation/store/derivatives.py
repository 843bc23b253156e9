"""What people look at instead of the uploaded bytes: one row for each picture or proxy of a medium.

`pending` -> `making` -> `ready` | `failed`. A message only hints: whoever is free asks for what
waits, and for what lost its maker.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import ColumnElement, RowMapping, and_, func, or_, select, update

from moderation.errors import LimitError, NotFoundError
from moderation.ids import new_id
from moderation.store.codec import clock
from moderation.store.engine import Database
from moderation.store.tables import derivative, item, media
from moderation.store.upsert import insert_new

MAX_DERIVATIVES = 1000
"""Of one medium: whoever asks for every millisecond would fill the disk."""
RETRY_S = 5.0
"""Seconds between two attempts, where our side failed."""
EXHAUSTED = "attempts_exhausted"
"""Code of the error where our side failed each time."""
REVIVED_S = 60.0
"""After so many seconds such a one is tried anew for who wants it."""


class DerivativeState(StrEnum):
    PENDING = "pending"
    MAKING = "making"
    READY = "ready"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        return self in (DerivativeState.READY, DerivativeState.FAILED)


@dataclass(frozen=True, slots=True)
class DerivativeRow:
    """error: a code and, after a colon, a sentence; of a failed one."""

    id: str
    tenant: str
    media_id: str
    name: str
    state: DerivativeState
    attempt: int
    blob_key: str | None
    media_type: str | None
    size: int | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Source:
    """The medium that a derivative is made of."""

    kind: str
    blob_key: str


@dataclass(frozen=True, slots=True)
class Made:
    blob_key: str
    media_type: str
    size: int


def want(
    db: Database, tenant: str, item_id: str, name: str, *, now: datetime | None = None
) -> tuple[DerivativeRow, bool]:
    """The derivative of an item's medium, and whether this call was the first to want it: then
    the caller sends the message. So it is where our side had failed each time, a while ago.

    Raises NotFoundError (no such item), LimitError (too_many_derivatives), StoreError.
    """
    moment = clock(now)
    found = _of_item(db, tenant, item_id, name)
    if found is not None:
        revived = _revive(db, found, moment)
        return revived or found, revived is not None
    with db.begin() as connection:
        query = (
            select(media.c.id)
            .join(item, item.c.media_id == media.c.id)
            .where(item.c.id == item_id, item.c.tenant == tenant)
            .with_for_update(of=media)  # it is not deleted meanwhile, and the count is right
        )
        media_id = connection.execute(query).scalar_one_or_none()
        if media_id is None:
            raise NotFoundError(f"There is no item {item_id}.")
        counted = select(func.count()).where(derivative.c.media_id == media_id)
        if connection.execute(counted).scalar_one() >= MAX_DERIVATIVES:
            raise LimitError(
                f"{MAX_DERIVATIVES} pictures were made of this video; no more are.",
                code="too_many_derivatives",
            )
        row = {
            "id": new_id("der"),
            "tenant": tenant,
            "media_id": media_id,
            "name": name,
            "state": DerivativeState.PENDING.value,
            "attempt": 0,
            "created": moment,
            "updated": moment,
        }
        first = insert_new(connection, derivative, row, ["media_id", "name"])
        asked = select(derivative).where(
            derivative.c.media_id == media_id, derivative.c.name == name
        )
        return _row(connection.execute(asked).mappings().one()), first


def get(db: Database, derivative_id: str) -> DerivativeRow | None:
    """None when nobody wants it any more: its item was deleted."""
    with db.connect() as connection:
        query = select(derivative).where(derivative.c.id == derivative_id)
        row = connection.execute(query).mappings().one_or_none()
    return None if row is None else _row(row)


def claim(
    db: Database,
    *,
    lease_s: float,
    without: str | None = None,
    now: datetime | None = None,
) -> tuple[DerivativeRow, Source] | None:
    """The one that has waited longest, which this caller makes from now on and renews; None when
    there is nothing to do.

    One that nobody renewed for `lease_s` has lost its maker and is handed out again; one that
    went wrong waits for RETRY_S. without: a name that this caller does not make now.
    """
    moment = clock(now)
    free = or_(
        and_(_is(DerivativeState.PENDING), derivative.c.attempt == 0),
        and_(
            _is(DerivativeState.PENDING),
            derivative.c.updated <= moment - timedelta(seconds=RETRY_S),
        ),
        and_(
            _is(DerivativeState.MAKING),
            derivative.c.updated <= moment - timedelta(seconds=lease_s),
        ),
    )
    oldest = select(derivative.c.id).where(free).order_by(derivative.c.updated).limit(1)
    if without is not None:
        oldest = oldest.where(derivative.c.name != without)
    with db.connect() as connection:
        if connection.execute(oldest).first() is None:
            return None
    with db.begin() as connection:
        found = connection.execute(oldest.with_for_update(skip_locked=True)).scalar_one_or_none()
        if found is None:
            return None
        claimed = connection.execute(
            update(derivative)
            .where(derivative.c.id == found)
            .values(
                state=DerivativeState.MAKING.value,
                attempt=derivative.c.attempt + 1,
                updated=moment,
            )
            .returning(derivative)
        )
        row = _row(claimed.mappings().one())
        query = select(media.c.kind, media.c.blob_key).where(media.c.id == row.media_id)
        return row, Source(**connection.execute(query).mappings().one())


def renew(db: Database, row: DerivativeRow, *, now: datetime | None = None) -> bool:
    """It is still being made; False when somebody else makes it, or nobody wants it."""
    return _change(db, row, now)


def finish(db: Database, row: DerivativeRow, made: Made, *, now: datetime | None = None) -> bool:
    """Ready: its bytes are in the store. False when the row is not this caller's any more, so
    that they belong to nobody."""
    return _change(
        db,
        row,
        now,
        state=DerivativeState.READY.value,
        blob_key=made.blob_key,
        media_type=made.media_type,
        size=made.size,
    )


def fail(db: Database, row: DerivativeRow, error: str, *, now: datetime | None = None) -> bool:
    """It cannot be made."""
    return _change(db, row, now, state=DerivativeState.FAILED.value, error=error)


def release(db: Database, row: DerivativeRow, *, now: datetime | None = None) -> bool:
    """Our side failed: it may be tried again."""
    return _change(db, row, now, state=DerivativeState.PENDING.value)


def _is(state: DerivativeState) -> ColumnElement[bool]:
    return derivative.c.state == state.value


def _of_item(db: Database, tenant: str, item_id: str, name: str) -> DerivativeRow | None:
    query = (
        select(derivative)
        .join(item, item.c.media_id == derivative.c.media_id)
        .where(item.c.id == item_id, item.c.tenant == tenant, derivative.c.name == name)
    )
    with db.connect() as connection:
        row = connection.execute(query).mappings().one_or_none()
    return None if row is None else _row(row)


def _revive(db: Database, row: DerivativeRow, now: datetime) -> DerivativeRow | None:
    """None, and nothing changed, where there is no reason to."""
    if row.state is not DerivativeState.FAILED or not (row.error or "").startswith(EXHAUSTED):
        return None
    changed = (
        update(derivative)
        .where(
            derivative.c.id == row.id,
            _is(DerivativeState.FAILED),
            derivative.c.updated <= now - timedelta(seconds=REVIVED_S),
        )
        .values(state=DerivativeState.PENDING.value, attempt=0, error=None, updated=now)
        .returning(derivative)
    )
    with db.begin() as connection:
        found = connection.execute(changed).mappings().one_or_none()
    return None if found is None else _row(found)


def _change(db: Database, row: DerivativeRow, now: datetime | None, **values: object) -> bool:
    """Only while the row is the caller's: the same attempt, still being made."""
    with db.begin() as connection:
        return (
            connection.execute(
                update(derivative)
                .where(
                    derivative.c.id == row.id,
                    derivative.c.state == DerivativeState.MAKING.value,
                    derivative.c.attempt == row.attempt,
                )
                .values(updated=clock(now), **values)
            ).rowcount
            == 1
        )


def _row(row: RowMapping) -> DerivativeRow:
    return DerivativeRow(
        id=row["id"],
        tenant=row["tenant"],
        media_id=row["media_id"],
        name=row["name"],
        state=DerivativeState(row["state"]),
        attempt=row["attempt"],
        blob_key=row["blob_key"],
        media_type=row["media_type"],
        size=row["size"],
        error=row["error"],
    )
