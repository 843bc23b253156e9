"""What every change of lists does: it is counted, and noted in the audit.

Whoever changes lists takes turns with all others who change those of the same tenant, so versions
are committed in their order: whoever has read one has read everything before it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from moderation.errors import NotFoundError
from moderation.known import BankKind
from moderation.store.list_records import BankRow
from moderation.store.tables import audit, bank, list_state
from moderation.store.upsert import insert_new
from moderation.types import Decision

BANK = (
    bank.c.id,
    bank.c.tenant,
    bank.c.name,
    bank.c.kind,
    bank.c.decision,
    bank.c.label,
    bank.c.distance,
    bank.c.enabled,
    bank.c.entries,
    bank.c.created,
    bank.c.updated,
)


def count_up(connection: Connection, tenant: str, *, reload: bool = False) -> int:
    """The version that this transaction makes. reload: whoever holds an earlier one shall read
    everything anew. Waits for rivals of the same tenant."""
    insert_new(connection, list_state, {"tenant": tenant, "version": 0, "reload": 0}, ["tenant"])
    values: dict[str, Any] = {"version": list_state.c.version + 1}
    if reload:
        values["reload"] = list_state.c.version + 1
    counted = (
        update(list_state)
        .where(list_state.c.tenant == tenant)
        .values(values)
        .returning(list_state.c.version)
    )
    return int(connection.execute(counted).scalar_one())


def bank_of(connection: Connection, tenant: str, bank_id: str) -> BankRow:
    """Raises NotFoundError, also for another tenant's."""
    query = select(*BANK).where(bank.c.id == bank_id, bank.c.tenant == tenant)
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise NotFoundError(f"There is no list {bank_id}.")
    return bank_row(row)


def recount(connection: Connection, bank_id: str, more: int) -> None:
    """So many entries more, or fewer, in a bank."""
    counted = update(bank).where(bank.c.id == bank_id).values(entries=bank.c.entries + more)
    connection.execute(counted)


def bank_row(row: Any) -> BankRow:
    values = dict(row)
    values["kind"] = BankKind(values["kind"])
    values["decision"] = Decision(values["decision"])
    return BankRow(**values)


def note(
    connection: Connection,
    tenant: str,
    action: str,
    target: str,
    *,
    actor: str,
    detail: dict[str, Any],
    now: datetime,
) -> None:
    """A row of the audit."""
    connection.execute(
        insert(audit).values(
            tenant=tenant,
            actor=actor,
            action=action,
            target=target,
            detail=detail,
            created=now,
        )
    )
