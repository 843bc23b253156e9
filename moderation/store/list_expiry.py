"""Entries of lists that ended long ago go away, some at a time.

They match nothing from the moment on at which they end; for a while people may still see that they
were there.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import delete, select

from moderation.store.codec import clock
from moderation.store.engine import Database
from moderation.store.list_changes import count_up, note, recount
from moderation.store.lists import BATCH
from moderation.store.tables import list_entry

SHOWN: Final = timedelta(days=30)
"""So long an entry stays after its end."""
SYSTEM: Final = "system"


@dataclass(frozen=True, slots=True)
class Step:
    """after: the id behind which the next step begins; None: there is nothing more to look at."""

    removed: int
    after: str | None


def prune(
    db: Database, *, after: str = "", limit: int = BATCH, now: datetime | None = None
) -> Step:
    """Looks at no more than `limit` entries, the oldest behind `after`, and removes those that
    ended more than 30 days ago: a line of the audit for each list.

    Few lists have entries that end, so there is no index of when; the walk is by id, which is by
    age, and stops where none can have ended so long ago. Any number may run at once. Raises
    StoreError.
    """
    moment = clock(now)
    before = moment - SHOWN
    query = (
        select(
            list_entry.c.id,
            list_entry.c.tenant,
            list_entry.c.bank_id,
            list_entry.c.expires,
            list_entry.c.created,
        )
        .where(list_entry.c.id > after)
        .order_by(list_entry.c.id)
        .limit(limit)
    )
    with db.connect() as connection:
        rows = connection.execute(query).all()
    over: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for row in rows:
        if row.expires is not None and row.expires < before:
            over[row.tenant, row.bank_id].append(row.id)
    removed = sum(_remove(db, *bank, ids, moment) for bank, ids in over.items())
    done = len(rows) < limit or rows[-1].created >= before
    return Step(removed, None if done else rows[-1].id)


def _remove(db: Database, tenant: str, bank_id: str, ids: list[str], now: datetime) -> int:
    with db.begin() as connection:
        count_up(connection, tenant)
        gone = connection.execute(delete(list_entry).where(list_entry.c.id.in_(ids))).rowcount
        if gone:
            recount(connection, bank_id, -gone)
            detail = {"removed": gone}
            note(connection, tenant, "list.expire", bank_id, actor=SYSTEM, detail=detail, now=now)
    return gone
