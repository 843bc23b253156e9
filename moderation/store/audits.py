"""The audit: who did, or saw, what. Written with each change; here what people looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import func, insert, select

from moderation.store.codec import clock
from moderation.store.engine import Database
from moderation.store.tables import audit

REVEAL: Final = "item.reveal"
"""Somebody looked at an item as it is, without the veil."""


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One act. actor: an account's or a key's id, or `system`."""

    id: int
    actor: str
    action: str
    target: str
    detail: Mapping[str, Any]
    created: datetime


def note(
    db: Database,
    tenant: str,
    actor: str,
    action: str,
    target: str,
    *,
    detail: Mapping[str, Any] | None = None,
    now: datetime | None = None,
) -> None:
    """Raises StoreError."""
    row = {"tenant": tenant, "actor": actor, "action": action, "target": target}
    with db.begin() as connection:
        connection.execute(
            insert(audit).values(**row, detail=dict(detail or {}), created=clock(now))
        )


def page(
    db: Database,
    tenant: str,
    *,
    actor: str | None = None,
    action: str | None = None,
    target: str | None = None,
    before: int | None = None,
    limit: int = 100,
) -> list[AuditRow]:
    """Newest first, those older than `before`. action: the whole of it, or its first word with a
    dot (`item.`). Raises StoreError."""
    query = select(audit).where(audit.c.tenant == tenant)
    if actor is not None:
        query = query.where(audit.c.actor == actor)
    if action is not None:
        begins = audit.c.action.startswith(action, autoescape=True)
        query = query.where(begins if action.endswith(".") else audit.c.action == action)
    if target is not None:
        query = query.where(audit.c.target == target)
    if before is not None:
        query = query.where(audit.c.id < before)
    with db.connect() as connection:
        rows = connection.execute(query.order_by(audit.c.id.desc()).limit(limit)).all()
    return [
        AuditRow(row.id, row.actor, row.action, row.target, row.detail, row.created) for row in rows
    ]


def exposure(db: Database, tenant: str, actor: str, *, since: datetime) -> int:
    """How many items somebody has looked at without the veil. Raises StoreError."""
    query = select(func.count(func.distinct(audit.c.target))).where(
        audit.c.tenant == tenant,
        audit.c.actor == actor,
        audit.c.action == REVEAL,
        audit.c.created >= since,
    )
    with db.connect() as connection:
        return int(connection.execute(query).scalar_one())
