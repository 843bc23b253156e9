"""What a verdict means for the queue of people: it opens an entry there, or settles it; and which
passes are put there for an audit."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, case, select, update

from moderation.store.review_records import ReviewState
from moderation.store.review_tables import review
from moderation.store.tables import job
from moderation.store.upsert import insert_new
from moderation.types import Decision, Reason, Status, Verdict

RISK: Final = timedelta(hours=8)
"""What is certain to be bad, or was not looked at, comes before what waits for so much longer."""
AUDIT_RANK: Final = 100
"""Rank of a pass that waits for an audit alone: behind all that needs a person."""


def passed_by_policy(verdict: Verdict) -> bool:
    """Whether it is a pass that models and policy alone have answered for: no person, no list and
    no earlier verdict on the same bytes had a part in it. Pure."""
    return (
        verdict.status is Status.DONE
        and verdict.decision is Decision.PASS
        and verdict.decided_by == "policy"
    )


def note_verdict(
    connection: Connection,
    tenant: str,
    item_id: str,
    job_id: str,
    verdict: Verdict,
    now: datetime,
    *,
    drawn: bool = False,
) -> None:
    """Called with every verdict that comes into force, but for those of people. drawn: people are
    to look at it for an audit, should the policy have passed it."""
    audit = drawn and passed_by_policy(verdict)
    if verdict.decision is not Decision.REVIEW and not audit:
        connection.execute(
            update(review)
            .where(review.c.item_id == item_id, review.c.state == ReviewState.OPEN.value)
            .values(state=ReviewState.SETTLED.value, claimed_by=None, claim_until=None, updated=now)
        )
        return
    gravest = None if audit else _gravest(verdict.reasons)
    score = None if gravest is None else gravest.score
    # An audit's order does not depend on the scores: those that are looked at first tell of all.
    risk = 0.0 if audit else 1.0 if score is None else score
    values: dict[str, Any] = {
        "state": ReviewState.OPEN.value,
        "audit": audit,
        "due": now - RISK * risk,
        "label": None if gravest is None else gravest.label,
        "score": score,
        "source_key": source_key(verdict.source),
        "updated": now,
    }
    rank = rank_of(connection, job_id, audit=audit)
    row = {"item_id": item_id, "tenant": tenant, "rank": rank, "escalated": False}
    if not insert_new(connection, review, row | values | {"created": now}, ["item_id"]):
        values["rank"] = case((review.c.escalated.is_(True), review.c.rank), else_=rank)
        connection.execute(update(review).where(review.c.item_id == item_id).values(values))


def rank_of(connection: Connection, job_id: str, *, audit: bool) -> int:
    """Where an item stands in the queue, the lowest first, unless it is escalated."""
    if audit:
        return AUDIT_RANK
    query = select(job.c.priority).where(job.c.id == job_id)
    return -int(connection.execute(query).scalar_one())


def source_key(source: str | None) -> int | None:
    """A number of 64 bits for a source, to be looked up by: equal ones have the same."""
    if source is None:
        return None
    digest = hashlib.sha256(source.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def _gravest(reasons: list[Reason]) -> Reason | None:
    return max(reasons, key=lambda one: (one.decision.severity, one.score or 0.0), default=None)
