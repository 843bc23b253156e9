"""Lists for the store's tests."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlalchemy import select

from moderation.known import BankKind, MatchKind
from moderation.store import (
    jobs,
    list_entries,
    lists,
)
from moderation.store.engine import Database
from moderation.store.list_records import BankRow, NewBank, NewEntry
from moderation.store.records import NewItem, Submission
from moderation.store.tables import audit
from moderation.types import Decision
from tests.contract.store_data import MODELS, NOW, result_for

ACTOR = "key_1"
PDQ = "ab" * 32
LOOK = NewEntry(MatchKind.PDQ, PDQ, quality=90)


def later(seconds: float) -> Any:
    return NOW + timedelta(seconds=seconds)


def turned(value: str, bits: int) -> str:
    """The hash with so many bits turned over."""
    return f"{int(value, 16) ^ ((1 << bits) - 1):064x}"


def a_bank(db: Database, name: str = "known", tenant: str = "default", **changes: Any) -> BankRow:
    kind = changes.get("kind", BankKind.BLOCK)
    block = kind is BankKind.BLOCK
    values: dict[str, Any] = {
        "kind": kind,
        "decision": Decision.BLOCK if block else Decision.PASS,
        "label": "porn.explicit" if block else None,
    }
    new = NewBank(name, **(values | changes))
    return lists.create_bank(db, tenant, new, actor=ACTOR, now=NOW)


def add(db: Database, bank: BankRow, *entries: NewEntry, **options: Any) -> tuple[str, ...]:
    options = {"actor": ACTOR, "now": NOW} | options
    return list_entries.add_entries(db, bank.tenant, bank.id, entries, **options).ids


def bytes_of(new: NewItem) -> NewEntry:
    return NewEntry(MatchKind.SHA256, new.media.sha256)


def submit(db: Database, new: NewItem, seconds: float = 1) -> Submission:
    return jobs.submit(db, new, dedupe_models=MODELS, now=later(seconds))


def decided(db: Database, new: NewItem, decision: Decision, **changes: Any) -> Submission:
    """As the models would, with the PDQ hash of `result_for`."""
    told = submit(db, new)
    claim = jobs.claim(db, told.job_id, "w-1", 30, now=later(2))
    assert claim is not None
    finished = replace(result_for(claim, decision), pdq_quality=90, **changes)
    assert jobs.finish(db, claim, finished, now=later(3))
    return told


def acts(db: Database) -> list[tuple[str, str]]:
    query = select(audit.c.actor, audit.c.action).order_by(audit.c.id)
    with db.connect() as connection:
        rows = connection.execute(query.where(audit.c.action.startswith("list."))).all()
    return [(row.actor, row.action) for row in rows]
