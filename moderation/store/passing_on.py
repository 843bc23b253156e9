"""A verdict on some bytes as the answer for another item with the same ones.

What a person decided is passed on as such, with where it came from: should that decision be taken
back, the items that it answered are found again (`recall`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, exists, func, select

from moderation.store.codec import load_verdict
from moderation.store.ending import OpenJob
from moderation.store.review_tables import review_decision
from moderation.store.tables import verdict as verdicts
from moderation.types import Verdict

ORIGIN: Final = func.coalesce(verdicts.c.passed_from, verdicts.c.id)
"""The verdict that a person made, of one that was passed on or not."""


@dataclass(frozen=True, slots=True)
class Answer:
    """passed_from: the person's verdict that it is; None for all others."""

    verdict: Verdict
    passed_from: int | None = None


def passed_on(connection: Connection, held: OpenJob, body: str, origin: int) -> Answer | None:
    """A verdict in force on the same bytes as the answer for another item. body: as stored;
    origin: its `ORIGIN`. None where it was a person's and has been taken back just now.

    A person's decision is passed on as such: it outranks the models on identical bytes. So is what
    a list decided: it holds as long as the list says so, and is no duplicate for later ones.
    """
    found = load_verdict(body)
    person = found.decided_by == "person"
    if person and not stands(connection, origin):
        return None
    decided_by = found.decided_by if found.decided_by in ("person", "list") else "duplicate"
    changes: dict[str, Any] = {
        "id": held.item_id,
        "job_id": held.id,
        "source": held.source,
        "data_id": held.data_id,
        "decided_by": decided_by,
        "timings_ms": {},
    }
    return Answer(found.model_copy(update=changes), origin if person else None)


def stands(connection: Connection, origin: int) -> bool:
    """Whether a person's verdict was not taken back, and will not be before this transaction ends:
    whoever undoes the decision waits, and then finds what this transaction passed on."""
    decision = review_decision
    query = (
        select(decision.c.undone)
        .join(verdicts, verdicts.c.item_id == decision.c.item_id)
        .where(verdicts.c.id == origin, decision.c.verdict_id == origin)
        .with_for_update(of=decision, read=True)
    )
    # No row: the decision's item was deleted, or its verdict was put back; neither can be undone.
    row = connection.execute(query).one_or_none()
    return row is None or row.undone is None


def not_taken_back() -> ColumnElement[bool]:
    """As `stands`, to ask the database by, of verdicts of people."""
    decision = review_decision.alias()
    own = verdicts.alias()
    return ~exists().where(
        own.c.id == ORIGIN,
        decision.c.item_id == own.c.item_id,
        decision.c.verdict_id == own.c.id,
        decision.c.undone.is_not(None),
    )
