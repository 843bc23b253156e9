"""What people decide: a new verdict that outranks the models, and for a minute its undoing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, func, insert, select, update

from moderation.errors import ConflictError, NotFoundError
from moderation.ids import new_id
from moderation.store.codec import clock, load_verdict
from moderation.store.ending import OpenJob, announce, lock_job, put_in_force
from moderation.store.engine import Database
from moderation.store.listed import version_of
from moderation.store.passing_on import stands
from moderation.store.recall import Recalled, lock_same_bytes, recall, tell
from moderation.store.review_entry import passed_by_policy, rank_of, source_key
from moderation.store.review_records import (
    Action,
    Choice,
    Decided,
    DecisionRow,
    ReviewState,
)
from moderation.store.review_tables import review, review_decision
from moderation.store.reviews import CLAIM, lock, refuse_claimed
from moderation.store.tables import audit, item, job
from moderation.store.tables import verdict as verdicts
from moderation.store.upsert import insert_new
from moderation.types import Decision, Reason, Segment, Verdict

UNDO: Final = timedelta(seconds=60)
ESCALATED: Final = -100
"""Rank of what was escalated: before everything else."""
BY_A_PERSON: Final = "Decided by a person."


@dataclass(frozen=True, slots=True)
class _Known:
    """An item that a transaction has locked, with its verdict in force."""

    job: OpenJob
    verdict_id: int
    verdict: Verdict


def decide(
    db: Database,
    tenant: str,
    actor: str,
    item_id: str,
    choice: Choice,
    *,
    now: datetime | None = None,
) -> Decided:
    """Writes a person's decision in one transaction with the verdict, its event and its callback.

    An item that did not wait may be decided too. Raises NotFoundError, ConflictError (claimed:
    somebody else has it; undecided: its analysis has not ended), StoreError.
    """
    moment = clock(now)
    with db.begin() as connection:
        known = _known(connection, tenant, item_id)
        entry = lock(connection, tenant, item_id)
        if entry is not None:
            refuse_claimed(entry, actor, moment)
        verdict = known.verdict
        number: int | None = None
        if choice.action is not Action.ESCALATE:
            verdict = judged(known.verdict, choice)
            lists = version_of(connection, tenant)
            number = put_in_force(connection, known.job, verdict, moment, lists=lists)
        mine = entry is not None and entry.claimed_by == actor
        row = {
            "id": new_id("decision"),
            "tenant": tenant,
            "item_id": item_id,
            "actor": actor,
            "action": choice.action.value,
            "label": choice.label,
            "note": choice.note,
            "labels": {
                label: "confirmed" if right else "rejected"
                for label, right in choice.labels.items()
            },
            "before_id": known.verdict_id,
            "verdict_id": number,
            "seconds": _seconds(connection, item_id, moment) if mine else None,
            "created": moment,
        }
        written = connection.execute(insert(review_decision).returning(review_decision), row)
        decision = _row(written.mappings().one())
        _close(connection, tenant, known.job, choice, moment)
        _note(connection, tenant, actor, f"review.{choice.action.value}", item_id, moment)
        if number is not None:
            announce(connection, known.job, verdict, moment)
    return Decided(decision, verdict.decision, moment + UNDO)


def undo(
    db: Database, tenant: str, actor: str, decision_id: str, *, now: datetime | None = None
) -> str:
    """Takes a decision back: the verdict before it is in force again, and the item is claimed by
    the actor as it was; its id. Items with the same bytes that it had answered are asked anew.
    Raises NotFoundError, ConflictError (undo_late, undo_done, undo_superseded; claimed where it is
    another's), StoreError."""
    moment = clock(now)
    mine = (review_decision.c.id == decision_id, review_decision.c.tenant == tenant)
    with db.begin() as connection:
        query = select(review_decision).where(*mine, review_decision.c.actor == actor)
        made = connection.execute(query).mappings().one_or_none()
        if made is None:
            raise NotFoundError(f"You have made no decision {decision_id}.")
        lock_same_bytes(connection, made["item_id"])
        known = _known(connection, tenant, made["item_id"])
        # After the jobs: a deletion has them in this order, too.
        row = connection.execute(query.with_for_update()).mappings().one()
        if row["undone"] is not None:
            raise ConflictError("This decision was taken back already.", code="undo_done")
        if moment > row["created"] + UNDO:
            raise ConflictError("A decision can be taken back for a minute.", code="undo_late")
        escalated = row["verdict_id"] is None
        last = _last_that_stands(connection, row)
        newer = escalated and last is not None and last["id"] > row["id"]
        if newer or known.verdict_id != (row["before_id"] if escalated else row["verdict_id"]):
            raise ConflictError("Something newer was decided since.", code="undo_superseded")
        entry = lock(connection, tenant, row["item_id"])
        if entry is not None:
            refuse_claimed(entry, actor, moment)
        connection.execute(update(review_decision).where(*mine).values(undone=moment))
        recalled: list[Recalled] = []
        before, passed_from = _before(connection, row["before_id"])
        if not escalated:
            lists = version_of(connection, tenant)
            put_in_force(
                connection, known.job, before, moment, lists=lists, passed_from=passed_from
            )
            recalled = recall(connection, known.job.media_id, row["verdict_id"], moment)
        audit = entry is not None and entry.audit
        # Somebody's escalation before this holds again.
        waits = last is not None and last["action"] == Action.ESCALATE.value
        state = ReviewState.OPEN if waits else state_before(before, audit=audit)
        connection.execute(
            update(review)
            .where(review.c.item_id == row["item_id"])
            .values(
                state=state.value,
                claimed_by=actor,
                claimed=moment,
                claim_until=moment + CLAIM,
                **_rank(connection, known.job, escalated=escalated, waits=waits, audit=audit),
                updated=moment,
            )
        )
        _note(connection, tenant, actor, "review.undo", row["item_id"], moment)
        if not escalated:
            announce(connection, known.job, before, moment)
            tell(connection, recalled, moment)
    return str(row["item_id"])


def of_item(db: Database, tenant: str, item_id: str) -> list[DecisionRow]:
    """Oldest first, undone ones too. Raises StoreError."""
    query = (
        select(review_decision)
        .where(review_decision.c.tenant == tenant, review_decision.c.item_id == item_id)
        .order_by(review_decision.c.id)
    )
    with db.connect() as connection:
        return [_row(row) for row in connection.execute(query).mappings()]


def count(db: Database, tenant: str, actor: str, *, since: datetime) -> int:
    """How many somebody made, and did not take back. Raises StoreError."""
    query = select(func.count()).where(
        review_decision.c.tenant == tenant,
        review_decision.c.actor == actor,
        review_decision.c.created >= since,
        review_decision.c.undone.is_(None),
    )
    with db.connect() as connection:
        return int(connection.execute(query).scalar_one())


def state_before(before: Verdict, *, audit: bool) -> ReviewState:
    """What an item is to the queue once a decision is taken back, and the verdict before it holds
    again. audit: it was drawn from the passes, and waits as such. Pure."""
    if before.decided_by == "person":
        return ReviewState.DECIDED
    waits = before.decision is Decision.REVIEW or (audit and passed_by_policy(before))
    return ReviewState.OPEN if waits else ReviewState.SETTLED


def judged(before: Verdict, choice: Choice) -> Verdict:
    """The verdict of a person who looked at an item. What the models scored stays.

    A block keeps the reasons whose labels were not rejected, and has one for the label that it is
    for. Pure.
    """
    if choice.action is Action.PASS:
        segments: list[Segment] | None = None if before.segments is None else []
        return _by_person(before, Decision.PASS, [], segments)
    rejected = {label for label, right in choice.labels.items() if not right} - {choice.label}
    reasons = [
        reason.model_copy(update={"decision": Decision.BLOCK})
        for reason in before.reasons
        if reason.label not in rejected
    ]
    if choice.label is not None and choice.label not in {one.label for one in reasons}:
        reasons.append(
            Reason(
                category=choice.label.partition(".")[0],
                label=choice.label,
                score=before.scores.get(choice.label),
                decision=Decision.BLOCK,
                detail=BY_A_PERSON,
            )
        )
    kept = before.segments
    if kept is not None:
        kept = [
            one.model_copy(update={"decision": Decision.BLOCK})
            for one in kept
            if one.label not in rejected
        ]
    return _by_person(before, Decision.BLOCK, reasons, kept)


def _by_person(
    before: Verdict, decision: Decision, reasons: list[Reason], segments: list[Segment] | None
) -> Verdict:
    changes: dict[str, Any] = {
        "decision": decision,
        "decided_by": "person",
        "reasons": reasons,
        "segments": segments,
        "timings_ms": {},
    }
    return before.model_copy(update=changes)


def _known(connection: Connection, tenant: str, item_id: str) -> _Known:
    query = select(item.c.job_id).where(item.c.id == item_id, item.c.tenant == tenant)
    job_id = connection.execute(query).scalar_one_or_none()
    held = None if job_id is None else lock_job(connection, job.c.id == job_id)
    if held is None:
        raise NotFoundError(f"There is no item {item_id}.")
    # Read under the job's lock: whoever writes a verdict of the item has it.
    current = select(item.c.current_verdict).where(item.c.id == item_id)
    number = connection.execute(current).scalar_one()
    if number is None:
        raise ConflictError("This item is still being analysed.", code="undecided")
    return _Known(held, number, _verdict(connection, number))


def _verdict(connection: Connection, number: int) -> Verdict:
    query = select(verdicts.c.body).where(verdicts.c.id == number)
    return load_verdict(connection.execute(query).scalar_one())


def _before(connection: Connection, number: int) -> tuple[Verdict, int | None]:
    """The verdict that a decision replaced, and whose it was. Raises ConflictError."""
    query = select(verdicts.c.body, verdicts.c.passed_from).where(verdicts.c.id == number)
    row = connection.execute(query).one()
    if row.passed_from is not None and not stands(connection, row.passed_from):
        raise ConflictError("What it had replaced was taken back since.", code="undo_superseded")
    return load_verdict(row.body), row.passed_from


def _close(
    connection: Connection, tenant: str, held: OpenJob, choice: Choice, now: datetime
) -> None:
    """The item leaves the queue, or goes to its top."""
    escalated = choice.action is Action.ESCALATE
    state = ReviewState.OPEN if escalated else ReviewState.DECIDED
    values: dict[str, Any] = {
        "state": state.value,
        "escalated": escalated,
        "claimed_by": None,
        "claimed": None,
        "claim_until": None,
        "updated": now,
    }
    if escalated:
        values["rank"] = ESCALATED
    row = {"item_id": held.item_id, "tenant": tenant, "rank": 0, "due": now, "created": now}
    row |= {"source_key": source_key(held.source), "audit": False}
    if not insert_new(connection, review, row | values, ["item_id"]):
        connection.execute(update(review).where(review.c.item_id == held.item_id).values(values))


def _last_that_stands(connection: Connection, row: RowMapping) -> RowMapping | None:
    """Of what was decided of an item beside `row`, and not taken back, the last."""
    query = (
        select(review_decision.c.id, review_decision.c.action)
        .where(
            review_decision.c.item_id == row["item_id"],
            review_decision.c.id != row["id"],
            review_decision.c.undone.is_(None),
        )
        .order_by(review_decision.c.id.desc())
        .limit(1)
    )
    return connection.execute(query).mappings().one_or_none()


def _rank(
    connection: Connection, held: OpenJob, *, escalated: bool, waits: bool, audit: bool
) -> dict[str, Any]:
    """Where an item is in the queue: at its top where somebody's escalation stands, and where it
    was before one that was a mistake."""
    if waits:
        return {"rank": ESCALATED, "escalated": True}
    if not escalated:
        return {}
    return {"rank": rank_of(connection, held.id, audit=audit), "escalated": False}


def _seconds(connection: Connection, item_id: str, now: datetime) -> float | None:
    query = select(review.c.claimed).where(review.c.item_id == item_id)
    since = connection.execute(query).scalar_one_or_none()
    return None if since is None else max(0.0, (now - since).total_seconds())


def _note(
    connection: Connection, tenant: str, actor: str, action: str, item_id: str, now: datetime
) -> None:
    values = {"tenant": tenant, "actor": actor, "action": action, "target": item_id}
    connection.execute(insert(audit).values(**values, detail={}, created=now))


def _row(row: RowMapping) -> DecisionRow:
    return DecisionRow(
        id=row["id"],
        item_id=row["item_id"],
        actor=row["actor"],
        action=Action(row["action"]),
        label=row["label"],
        note=row["note"],
        labels=row["labels"],
        seconds=row["seconds"],
        created=row["created"],
        undone=row["undone"],
    )
