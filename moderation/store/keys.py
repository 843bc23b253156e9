"""API keys. Only a hash is stored; the secret is shown once."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta

from sqlalchemy import Connection, RowMapping, insert, or_, select, update

from moderation.errors import AccessError, InputError, NotFoundError
from moderation.ids import new_id
from moderation.store.codec import clock
from moderation.store.engine import Database
from moderation.store.records import DEFAULT_TENANT, KeyRow
from moderation.store.tables import api_key, audit
from moderation.store.upsert import insert_new

SCOPES = frozenset({"media:write", "results:read", "review:write", "admin"})
BOOTSTRAP_ID = "key_bootstrap"
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
LAST_USED_EVERY = timedelta(minutes=1)


def create_key(
    db: Database,
    *,
    tenant: str,
    name: str,
    scopes: Iterable[str],
    actor: str = "system",
    now: datetime | None = None,
) -> tuple[KeyRow, str]:
    """A new key, and its secret `mod_<id>_<secret>`, which nobody can read again.

    Raises InputError: scope_unknown for no scope, or one that does not exist; tenant_invalid
    for a tenant that cannot be a part of a media key.
    """
    if not _TENANT.fullmatch(tenant):
        raise InputError(
            "A tenant is named by 1 to 64 letters, digits, '.', '_' and '-'.",
            code="tenant_invalid",
        )
    wanted = frozenset(scopes)
    if not wanted or wanted - SCOPES:
        known = ", ".join(sorted(SCOPES))
        raise InputError(f"A key needs scopes out of: {known}.", code="scope_unknown")
    moment = clock(now)
    key_id = new_id("key")
    secret = f"mod_{key_id.removeprefix('key_')}_{secrets.token_urlsafe(32)}"
    row = KeyRow(id=key_id, tenant=tenant, name=name, scopes=wanted, created=moment)
    with db.begin() as connection:
        connection.execute(insert(api_key).values(_values(row, secret)))
        _note(connection, row, "key.create", actor, moment)
    return row, secret


def ensure_bootstrap(db: Database, secret: str, *, now: datetime | None = None) -> KeyRow:
    """Accepts the configured secret as an admin key of the default tenant.

    A changed secret replaces the earlier one; a revoked one stays revoked until it changes.
    Raises InputError for an empty secret.
    """
    if not secret:
        raise InputError("The bootstrap key is empty.", code="key_invalid")
    moment = clock(now)
    row = KeyRow(
        id=BOOTSTRAP_ID,
        tenant=DEFAULT_TENANT,
        name="bootstrap",
        scopes=SCOPES,
        created=moment,
    )
    values = _values(row, secret)
    with db.begin() as connection:
        # Two starts at once collide on the id or on the hash, whichever comes first.
        if insert_new(connection, api_key, values):
            _note(connection, row, "key.create", "settings", moment)
            return row
        changed = connection.execute(
            update(api_key)
            .where(api_key.c.id == BOOTSTRAP_ID, api_key.c.hash != values["hash"])
            .values(hash=values["hash"], revoked=None, created=moment, last_used=None)
        )
        if changed.rowcount:
            _note(connection, row, "key.replace", "settings", moment)
        found = connection.execute(select(api_key).where(api_key.c.id == BOOTSTRAP_ID))
        return _key_row(found.mappings().one())


def authenticate(db: Database, secret: str, *, now: datetime | None = None) -> KeyRow:
    """The key of a secret. Raises AccessError for an unknown or revoked one; StoreError.

    `last_used` is written once a minute at most.
    """
    moment = clock(now)
    digest = _hash(secret)
    with db.connect() as connection:
        query = select(api_key).where(api_key.c.hash == digest)
        row = connection.execute(query).mappings().one_or_none()
    if row is None or not hmac.compare_digest(row["hash"], digest) or row["revoked"] is not None:
        raise AccessError("The API key is not known, or was revoked.")
    if row["last_used"] is None or row["last_used"] <= moment - LAST_USED_EVERY:
        with db.begin() as connection:
            connection.execute(
                update(api_key)
                .where(
                    api_key.c.id == row["id"],
                    or_(
                        api_key.c.last_used.is_(None),
                        api_key.c.last_used <= moment - LAST_USED_EVERY,
                    ),
                )
                .values(last_used=moment)
            )
    return _key_row(row)


def holds(db: Database, key: KeyRow) -> bool:
    """Whether a key that was authenticated before still stands: neither revoked nor replaced.
    Raises StoreError."""
    query = select(api_key.c.id).where(
        api_key.c.id == key.id, api_key.c.created == key.created, api_key.c.revoked.is_(None)
    )
    with db.connect() as connection:
        return connection.execute(query).first() is not None


def list_keys(db: Database, tenant: str | None = None) -> list[KeyRow]:
    """Keys of a tenant (None: of all), oldest first, revoked ones too."""
    query = select(api_key).order_by(api_key.c.created, api_key.c.id)
    if tenant is not None:
        query = query.where(api_key.c.tenant == tenant)
    with db.connect() as connection:
        return [_key_row(row) for row in connection.execute(query).mappings()]


def revoke_key(
    db: Database, key_id: str, *, actor: str = "system", now: datetime | None = None
) -> KeyRow:
    """From now on the key is refused; a second time changes nothing. Raises NotFoundError."""
    moment = clock(now)
    with db.begin() as connection:
        done = connection.execute(
            update(api_key)
            .where(api_key.c.id == key_id, api_key.c.revoked.is_(None))
            .values(revoked=moment)
        )
        found = connection.execute(select(api_key).where(api_key.c.id == key_id))
        row = found.mappings().one_or_none()
        if row is None:
            raise NotFoundError(f"There is no key {key_id}.")
        key = _key_row(row)
        if done.rowcount:
            _note(connection, key, "key.revoke", actor, moment)
        return key


def _hash(secret: str) -> str:
    # The secrets are long and random: a slow hash would guard nothing and cost every request.
    return hashlib.sha256(secret.encode()).hexdigest()


def _values(row: KeyRow, secret: str) -> dict[str, object]:
    return {
        "id": row.id,
        "tenant": row.tenant,
        "name": row.name,
        "scopes": sorted(row.scopes),
        "hash": _hash(secret),
        "created": row.created,
    }


def _key_row(row: RowMapping) -> KeyRow:
    return KeyRow(
        id=row["id"],
        tenant=row["tenant"],
        name=row["name"],
        scopes=frozenset(row["scopes"]),
        created=row["created"],
        last_used=row["last_used"],
        revoked=row["revoked"],
    )


def _note(connection: Connection, key: KeyRow, action: str, actor: str, now: datetime) -> None:
    connection.execute(
        insert(audit).values(
            tenant=key.tenant,
            actor=actor,
            action=action,
            target=key.id,
            detail={"name": key.name, "scopes": sorted(key.scopes)},
            created=now,
        )
    )
