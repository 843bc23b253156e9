"""Accounts of people: made, changed, and let in by their password."""

from __future__ import annotations

import itertools
import re
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, delete, func, insert, select, update

from moderation import passwords
from moderation.errors import AccessError, ConflictError, InputError, NotFoundError
from moderation.ids import new_id
from moderation.store.codec import clock
from moderation.store.engine import Database
from moderation.store.review_records import AccountRow, Role
from moderation.store.review_tables import account, session
from moderation.store.tables import audit
from moderation.store.upsert import insert_new

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,63}")
MAX_FAILURES: Final = 5
LOCKED: Final = timedelta(minutes=15)
"""After so many wrong passwords in a row nobody is let in for so long, not with the right one."""
REFUSED: Final = "Name or password is wrong, or the account is locked or disabled."
DISABLED: Final = "The account is disabled."
EXTERNAL: Final = "The sign-in and role of this account come from an identity provider."


def create(
    db: Database,
    *,
    tenant: str,
    name: str,
    role: Role,
    password: str,
    actor: str = "system",
    now: datetime | None = None,
) -> AccountRow:
    """A new account. Raises InputError (account_name, password_weak), ConflictError
    (account_exists), StoreError."""
    if not NAME.fullmatch(name):
        raise InputError(
            "A name has 2 to 64 lower-case letters, digits, '.', '_' and '-'.", code="account_name"
        )
    kept = passwords.hashed(passwords.checked(password, name))
    moment = clock(now)
    values = _new(tenant, name, role, kept, moment)
    with db.begin() as connection:
        known = select(account.c.id).where(account.c.name == name)
        if connection.execute(known).first() is not None:
            raise ConflictError(f"There is an account {name} already.", code="account_exists")
        row = connection.execute(insert(account).returning(account), values).mappings().one()
        _note(connection, row["id"], tenant, "account.create", actor, {"role": role.value}, moment)
    return account_row(row)


def sign_in(db: Database, name: str, password: str, *, now: datetime | None = None) -> AccountRow:
    """The account of a name and its password. Raises AccessError, with one sentence for all
    reasons, and StoreError. Slow by design: not for the event loop."""
    moment = clock(now)
    with db.connect() as connection:
        query = select(account).where(account.c.name == name)
        row = connection.execute(query).mappings().one_or_none()
    right = passwords.matches(password, passwords.nobodys() if row is None else row["password"])
    if row is None:
        raise AccessError(REFUSED)
    locked = row["locked_until"] is not None and row["locked_until"] > moment
    with db.begin() as connection:
        if right and not locked and not row["disabled"]:
            connection.execute(
                update(account)
                .where(account.c.id == row["id"])
                .values(failures=0, locked_until=None, seen=moment)
            )
            _note(connection, row["id"], row["tenant"], "sign_in", row["id"], {}, moment)
            return account_row({**row, "seen": moment, "locked_until": None})
        if not locked and not right:
            _failed(connection, row, moment)
        detail = {"locked": locked, "disabled": bool(row["disabled"])}
        _note(connection, row["id"], row["tenant"], "sign_in.refused", row["id"], detail, moment)
    raise AccessError(REFUSED)


def arrive(
    db: Database,
    *,
    tenant: str,
    subject: str,
    name: str,
    role: Role,
    now: datetime | None = None,
) -> AccountRow:
    """The account of somebody whom an identity provider vouches for, with the role of now; made at
    the first time, under a name like `name` that nobody else has. Raises AccessError (disabled),
    ConflictError (last_admin), StoreError."""
    moment = clock(now)
    mine = select(account).where(account.c.subject == subject)
    with db.begin() as connection:
        row = connection.execute(mine.with_for_update()).mappings().one_or_none()
        if row is None:
            made = _arrived(connection, tenant, subject, name, role, moment)
            row = connection.execute(mine).mappings().one()
            if made:
                detail = {"role": role.value, "external": True}
                _note(connection, row["id"], tenant, "account.create", row["id"], detail, moment)
        values: dict[str, Any] = {"seen": moment}
        if row["disabled"]:
            detail = {"locked": False, "disabled": True}
            _note(connection, row["id"], tenant, "sign_in.refused", row["id"], detail, moment)
        else:
            if row["role"] != role.value:
                values |= {"role": role.value, "updated": moment}
                _keep_an_admin(connection, row, values)
                connection.execute(delete(session).where(session.c.account_id == row["id"]))
                change = {"role": role.value}
                _note(connection, row["id"], tenant, "account.change", row["id"], change, moment)
            changed = update(account).where(account.c.id == row["id"]).values(values)
            found = connection.execute(changed.returning(account)).mappings().one()
            _note(connection, row["id"], tenant, "sign_in", row["id"], {"external": True}, moment)
            return account_row(found)
    raise AccessError(DISABLED)


def listed(db: Database, tenant: str | None = None) -> list[AccountRow]:
    """By name; of all tenants where none is named. Raises StoreError."""
    query = select(account).order_by(account.c.name)
    if tenant is not None:
        query = query.where(account.c.tenant == tenant)
    with db.connect() as connection:
        return [account_row(row) for row in connection.execute(query).mappings()]


def are_there(db: Database) -> bool:
    """Is there an account at all, of any tenant? Raises StoreError."""
    with db.connect() as connection:
        return connection.execute(select(account.c.id).limit(1)).first() is not None


def named(db: Database, name: str) -> AccountRow:
    """Raises NotFoundError, StoreError."""
    with db.connect() as connection:
        row = connection.execute(select(account).where(account.c.name == name)).mappings().first()
    if row is None:
        raise NotFoundError(f"There is no account {name}.")
    return account_row(row)


def change(
    db: Database,
    account_id: str,
    *,
    role: Role | None = None,
    disabled: bool | None = None,
    password: str | None = None,
    actor: str = "system",
    now: datetime | None = None,
) -> AccountRow:
    """Changes an account; a new password unlocks it. Whoever is signed in with it is signed out
    where that may matter: by another password or role, or when it is disabled. Raises
    NotFoundError, InputError (password_weak, account_external), ConflictError (last_admin),
    StoreError."""
    moment = clock(now)
    with db.begin() as connection:
        query = select(account).where(account.c.id == account_id).with_for_update()
        row = connection.execute(query).mappings().one_or_none()
        if row is None:
            raise NotFoundError(f"There is no account {account_id}.")
        values: dict[str, Any] = {"updated": moment}
        detail: dict[str, Any] = {}
        if role is not None and role.value != row["role"]:
            values["role"] = detail["role"] = role.value
        if disabled is not None and disabled != row["disabled"]:
            values["disabled"] = detail["disabled"] = disabled
        if row["subject"] is not None and (password is not None or role is not None):
            raise InputError(EXTERNAL, code="account_external")
        if password is not None:
            values["password"] = passwords.hashed(passwords.checked(password, row["name"]))
            values |= {"failures": 0, "locked_until": None}
            detail["password"] = "changed"  # noqa: S105 - a word for the audit
        _keep_an_admin(connection, row, values)
        changed = connection.execute(
            update(account).where(account.c.id == account_id).values(values).returning(account)
        )
        found = account_row(changed.mappings().one())
        if detail:
            connection.execute(delete(session).where(session.c.account_id == account_id))
            _note(connection, account_id, found.tenant, "account.change", actor, detail, moment)
    return found


def prefer(db: Database, account_id: str, preferences: dict[str, Any]) -> None:
    """Keeps how a person wants to see things, in place of what was kept. Raises StoreError."""
    with db.begin() as connection:
        connection.execute(
            update(account).where(account.c.id == account_id).values(preferences=preferences)
        )


def _arrived(
    connection: Connection, tenant: str, subject: str, name: str, role: Role, now: datetime
) -> bool:
    """Whether this call made the account, or somebody else did meanwhile."""
    row = _new(tenant, name, role, passwords.nobodys(), now) | {"subject": subject}
    base = re.sub(r"[^a-z0-9._-]+", "-", name.casefold().partition("@")[0]).lstrip("._-")[:56]
    known = select(account.c.id).where(account.c.subject == subject)
    for number in itertools.count(1):
        row["name"] = f"{base or 'user'}-{number}" if number > 1 or len(base) < 2 else base
        if insert_new(connection, account, row):
            return True
        if connection.execute(known).first() is not None:
            return False
    raise AssertionError


def _new(tenant: str, name: str, role: Role, password: str, now: datetime) -> dict[str, Any]:
    return {
        "id": new_id("user"),
        "tenant": tenant,
        "name": name,
        "role": role.value,
        "password": password,
        "disabled": False,
        "failures": 0,
        "locked_until": None,
        "preferences": {},
        "created": now,
        "updated": now,
        "seen": None,
    }


def _failed(connection: Connection, row: RowMapping, now: datetime) -> None:
    """One wrong password more; the account is locked with the last that it may have."""
    failures = connection.execute(
        update(account)
        .where(account.c.id == row["id"])
        .values(failures=account.c.failures + 1)
        .returning(account.c.failures)
    ).scalar_one()
    if failures >= MAX_FAILURES:
        connection.execute(
            update(account)
            .where(account.c.id == row["id"])
            .values(failures=0, locked_until=now + LOCKED)
        )


def _keep_an_admin(connection: Connection, row: RowMapping, values: dict[str, Any]) -> None:
    """Somebody has to be able to make accounts. Raises ConflictError."""
    stays = values.get("role", row["role"]) == Role.ADMIN and not values.get(
        "disabled", row["disabled"]
    )
    if row["role"] != Role.ADMIN or row["disabled"] or stays:
        return
    others = select(func.count()).where(
        account.c.role == Role.ADMIN.value,
        account.c.disabled.is_(False),
        account.c.tenant == row["tenant"],
        account.c.id != row["id"],
    )
    if connection.execute(others).scalar_one() == 0:
        raise ConflictError("This is the last account with the role admin.", code="last_admin")


def _note(
    connection: Connection,
    target: str,
    tenant: str,
    action: str,
    actor: str,
    detail: dict[str, Any],
    now: datetime,
) -> None:
    values = {"tenant": tenant, "actor": actor, "action": action, "target": target}
    connection.execute(insert(audit).values(**values, detail=detail, created=now))


def account_row(row: RowMapping | dict[str, Any]) -> AccountRow:
    return AccountRow(
        id=row["id"],
        tenant=row["tenant"],
        name=row["name"],
        role=Role(row["role"]),
        disabled=bool(row["disabled"]),
        locked_until=row["locked_until"],
        preferences=row["preferences"],
        created=row["created"],
        seen=row["seen"],
        external=row["subject"] is not None,
    )
