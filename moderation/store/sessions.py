"""Browsers that are signed in. A session's secret is in its cookie alone: its hash is kept."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import delete, insert, select, update

from moderation.errors import AccessError
from moderation.store.accounts import account_row
from moderation.store.codec import clock
from moderation.store.engine import Database
from moderation.store.review_records import AccountRow
from moderation.store.review_tables import account, session

LIFE: Final = timedelta(hours=12)
"""A shift. After that one signs in anew, whatever one does."""
IDLE: Final = timedelta(hours=2)
SEEN_EVERY: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A session that holds. key: names it in this process, and is no secret."""

    account: AccountRow
    key: str
    expires: datetime


def begin(db: Database, who: AccountRow, *, now: datetime | None = None) -> tuple[str, SignedIn]:
    """A new session and its secret, for the cookie. Raises StoreError."""
    moment = clock(now)
    secret = secrets.token_urlsafe(32)
    row = {
        "hash": _hash(secret),
        "account_id": who.id,
        "tenant": who.tenant,
        "created": moment,
        "seen": moment,
        "expires": moment + LIFE,
    }
    with db.begin() as connection:
        connection.execute(delete(session).where(session.c.expires <= moment))
        connection.execute(insert(session), row)
    return secret, SignedIn(who, str(row["hash"]), moment + LIFE)


def find(db: Database, secret: str, *, now: datetime | None = None) -> SignedIn:
    """Who is signed in by that secret. Raises AccessError: nobody, not any more, or the account was
    disabled; StoreError."""
    moment = clock(now)
    query = (
        select(account, session.c.hash, session.c.expires, session.c.seen.label("used"))
        .join(session, session.c.account_id == account.c.id)
        .where(
            session.c.hash == _hash(secret),
            session.c.expires > moment,
            session.c.seen > moment - IDLE,
            account.c.disabled.is_(False),
        )
    )
    with db.connect() as connection:
        row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise AccessError("Nobody is signed in here.")
    if row["used"] <= moment - SEEN_EVERY:
        with db.begin() as connection:
            connection.execute(
                update(session).where(session.c.hash == row["hash"]).values(seen=moment)
            )
    return SignedIn(account_row(row), row["hash"], row["expires"])


def end(db: Database, key: str) -> None:
    """Signs a browser out. Raises StoreError."""
    with db.begin() as connection:
        connection.execute(delete(session).where(session.c.hash == key))


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
