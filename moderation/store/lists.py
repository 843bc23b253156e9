"""Banks of known pictures, as people make, read, change and delete them. Tenants never see each
other's. What they mean for uploads is in `listed`."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import datetime

from sqlalchemy import delete, select, update

from moderation.errors import ConflictError
from moderation.ids import new_id
from moderation.store.codec import clock, dump_cursor, load_cursor
from moderation.store.engine import Database
from moderation.store.list_changes import BANK, bank_of, bank_row, count_up, note
from moderation.store.list_records import BankChanges, BankPage, BankRow, NewBank
from moderation.store.tables import bank, list_entry
from moderation.store.upsert import insert_new

BATCH = 2000
"""Entries that one transaction writes or deletes: others do not wait long for their turn."""


def create_bank(
    db: Database, tenant: str, new: NewBank, *, actor: str, now: datetime | None = None
) -> BankRow:
    """A new bank, without entries. Raises InputError (bank_invalid), ConflictError (bank_exists)
    where the tenant has one of that name, StoreError."""
    moment = clock(now)
    new.checked()
    bank_id = new_id("bank")
    with db.begin() as connection:
        row = {
            **asdict(new),
            "id": bank_id,
            "tenant": tenant,
            "entries": 0,
            "version": count_up(connection, tenant),
            "created": moment,
            "updated": moment,
        }
        if not insert_new(connection, bank, row, ["tenant", "name"]):
            raise _taken(new.name)
        detail = asdict(new)
        note(connection, tenant, "list.create", bank_id, actor=actor, detail=detail, now=moment)
        return bank_of(connection, tenant, bank_id)


def get_bank(db: Database, tenant: str, bank_id: str) -> BankRow:
    """Raises NotFoundError, also for another tenant's; StoreError."""
    with db.connect() as connection:
        return bank_of(connection, tenant, bank_id)


def bank_named(db: Database, tenant: str, name: str) -> BankRow | None:
    """Raises StoreError."""
    query = select(*BANK).where(bank.c.tenant == tenant, bank.c.name == name)
    with db.connect() as connection:
        row = connection.execute(query).mappings().one_or_none()
    return None if row is None else bank_row(row)


def list_banks(
    db: Database, tenant: str, *, limit: int = 50, cursor: str | None = None
) -> BankPage:
    """Banks of a tenant, newest first, `limit` to a page (at least 1). Raises InputError
    (cursor_invalid), StoreError."""
    query = select(*BANK).where(bank.c.tenant == tenant)
    if cursor is not None:
        query = query.where(bank.c.id < load_cursor(cursor))
    size = max(1, limit)
    with db.connect() as connection:
        rows = connection.execute(query.order_by(bank.c.id.desc()).limit(size + 1)).mappings().all()
    shown = tuple(bank_row(row) for row in rows[:size])
    more = len(rows) > size
    return BankPage(shown, dump_cursor(shown[-1].id) if more else None)


def change_bank(
    db: Database,
    tenant: str,
    bank_id: str,
    changes: BankChanges,
    *,
    actor: str,
    now: datetime | None = None,
) -> BankRow:
    """From now on uploads are held against the bank as it is then. Raises NotFoundError,
    InputError (bank_invalid), ConflictError (bank_exists), StoreError."""
    moment = clock(now)
    wanted = {name: value for name, value in asdict(changes).items() if value is not None}
    with db.begin() as connection:
        version = count_up(connection, tenant)
        old = bank_of(connection, tenant, bank_id)
        as_new = NewBank(old.name, old.kind, old.decision, old.label, old.distance, old.enabled)
        replace(as_new, **wanted).checked()
        same_name = select(bank.c.id).where(
            bank.c.tenant == tenant, bank.c.name == changes.name, bank.c.id != bank_id
        )
        if connection.execute(same_name).first() is not None:
            raise _taken(str(changes.name))
        values = {**wanted, "version": version, "updated": moment}
        connection.execute(update(bank).where(bank.c.id == bank_id).values(values))
        note(connection, tenant, "list.change", bank_id, actor=actor, detail=wanted, now=moment)
        return bank_of(connection, tenant, bank_id)


def delete_bank(
    db: Database, tenant: str, bank_id: str, *, actor: str, now: datetime | None = None
) -> None:
    """Deletes a bank with all its entries; it has no effect from the first of several transactions
    on. Raises NotFoundError, StoreError: what is left then is a bank that is switched off."""
    moment = clock(now)
    with db.begin() as connection:
        version = count_up(connection, tenant)
        old = bank_of(connection, tenant, bank_id)
        off = {"enabled": False, "version": version, "updated": moment}
        connection.execute(update(bank).where(bank.c.id == bank_id).values(off))
    some = select(list_entry.c.id).where(list_entry.c.bank_id == bank_id).limit(BATCH)
    left = BATCH
    while left == BATCH:
        with db.begin() as connection:
            gone = delete(list_entry).where(list_entry.c.id.in_(some.scalar_subquery()))
            left = connection.execute(gone).rowcount
    with db.begin() as connection:
        count_up(connection, tenant, reload=True)
        # Again: who else deleted it was waited for just now.
        bank_of(connection, tenant, bank_id)
        connection.execute(delete(list_entry).where(list_entry.c.bank_id == bank_id))
        connection.execute(delete(bank).where(bank.c.id == bank_id))
        detail = {"name": old.name, "entries": old.entries}
        note(connection, tenant, "list.delete", bank_id, actor=actor, detail=detail, now=moment)


def _taken(name: str) -> ConflictError:
    return ConflictError(f"There is a list named {name} already.", code="bank_exists")
