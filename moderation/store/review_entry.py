"""What a verdict means for the queue of people: it opens an entry there, or settles it."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, select, update

from moderation.store.review_records import ReviewState
from moderation.store.review_tables import review
from moderation.store.tables import job
from moderation.store.upsert import insert_new
from moderation.types import Decision, Reason, Verdict

RISK: Final = timedelta(hours=8)
"""What is certain to be bad, or was not looked at, comes before what waits for so much longer."""


def note_verdict(
    connection: Connection, tenant: str, item_id: str, job_id: str, verdict: Verdict, now: datetime
) -> None:
    """Called with every verdict that comes into force, but for those of people."""
    if verdict.decision is not Decision.REVIEW:
        connection.execute(
            update(review)
            .where(review.c.item_id == item_id, review.c.state == ReviewState.OPEN.value)
            .values(state=ReviewState.SETTLED.value, claimed_by=None, claim_until=None, updated=now)
        )
        return
    gravest = _gravest(verdict.reasons)
    score = None if gravest is None else gravest.score
    values: dict[str, Any] = {
        "state": ReviewState.OPEN.value,
        "due": now - RISK * (1.0 if score is None else score),
        "label": None if gravest is None else gravest.label,
        "score": score,
        "source_key": source_key(verdict.source),
        "updated": now,
    }
    priority = connection.execute(select(job.c.priority).where(job.c.id == job_id)).scalar_one()
    row = {"item_id": item_id, "tenant": tenant, "rank": -priority, "escalated": False}
    if not insert_new(connection, review, row | values | {"created": now}, ["item_id"]):
        connection.execute(update(review).where(review.c.item_id == item_id).values(values))


def source_key(source: str | None) -> int | None:
    """A number of 64 bits for a source, to be looked up by: equal ones have the same."""
    if source is None:
        return None
    digest = hashlib.sha256(source.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def _gravest(reasons: list[Reason]) -> Reason | None:
    return max(reasons, key=lambda one: (one.decision.severity, one.score or 0.0), default=None)
