"""What people decided, as a labelled set: one row an item, with what the models said of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, Row, exists, func, or_, select

from moderation.store.codec import load_verdict
from moderation.store.engine import Database
from moderation.store.review_records import Action
from moderation.store.review_tables import review, review_decision
from moderation.store.tables import item, media
from moderation.store.tables import verdict as verdicts

BATCH: Final = 500


@dataclass(frozen=True, slots=True)
class Labelled:
    """An item that a person decided, and did not take back. label: what a block is for. labels:
    `confirmed` or `rejected`. flagged, scores, policy, models: of the verdict before the decision.
    sha256, kind: of the medium. audit: it was drawn by lot from what the policy passed."""

    decision_id: str
    item_id: str
    sha256: str
    kind: str
    source: str | None
    data_id: str | None
    action: Action
    label: str | None
    labels: Mapping[str, str]
    note: str | None
    actor: str
    flagged: tuple[str, ...]
    scores: Mapping[str, float]
    policy: str
    models: tuple[str, ...]
    created: datetime
    audit: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which decisions are asked for; all parts that are given must hold. since, until: when they
    were made, from the one and before the other. label: what a block is for, or what was confirmed
    or rejected."""

    since: datetime | None = None
    until: datetime | None = None
    action: Action | None = None
    label: str | None = None


ALL: Final = Wanted()


def labelled(db: Database, tenant: str, wanted: Wanted = ALL) -> Iterator[Labelled]:
    """The last decision of each item, where it is wanted, by time; read in batches, so that nobody
    waits for a long reader. Raises StoreError."""
    query = (
        select(
            review_decision,
            media.c.sha256,
            media.c.kind,
            item.c.source,
            item.c.data_id,
            verdicts.c.body,
            review.c.audit,
        )
        .join(item, item.c.id == review_decision.c.item_id)
        .join(media, media.c.id == item.c.media_id)
        .join(review, review.c.item_id == review_decision.c.item_id)
        .join(verdicts, verdicts.c.id == review_decision.c.before_id)
        .where(*_conditions(tenant, wanted))
        .order_by(review_decision.c.id)
        .limit(BATCH)
    )
    last = ""
    while True:
        with db.connect() as connection:
            rows = connection.execute(query.where(review_decision.c.id > last)).all()
        for row in rows:
            yield _labelled(row)
        if len(rows) < BATCH:
            return
        last = rows[-1].id


def count(db: Database, tenant: str, wanted: Wanted = ALL) -> int:
    """How many `labelled` gives. Reads all of them that are wanted, though not the verdicts. Raises
    StoreError."""
    query = (
        select(func.count())
        .select_from(review_decision)
        .join(verdicts, verdicts.c.id == review_decision.c.before_id)
        .where(*_conditions(tenant, wanted))
    )
    with db.connect() as connection:
        return int(connection.execute(query).scalar_one())


def _conditions(tenant: str, wanted: Wanted) -> list[ColumnElement[bool]]:
    made = review_decision.c
    later = review_decision.alias()
    superseded = exists().where(
        later.c.item_id == made.item_id,
        later.c.id > made.id,
        later.c.undone.is_(None),
        later.c.action != Action.ESCALATE.value,
    )
    found = [
        made.tenant == tenant,
        made.action != Action.ESCALATE.value,
        made.undone.is_(None),
        ~superseded,
    ]
    if wanted.since is not None:
        found.append(made.created >= wanted.since)
    if wanted.until is not None:
        found.append(made.created < wanted.until)
    if wanted.action is not None:
        found.append(made.action == wanted.action.value)
    if wanted.label is not None:
        said = made.labels[wanted.label].as_string().is_not(None)
        found.append(or_(made.label == wanted.label, said))
    return found


def _labelled(row: Row[tuple[object, ...]]) -> Labelled:
    before = load_verdict(row.body)
    return Labelled(
        decision_id=row.id,
        item_id=row.item_id,
        sha256=row.sha256,
        kind=row.kind,
        source=row.source,
        data_id=row.data_id,
        action=Action(row.action),
        label=row.label,
        labels=row.labels,
        note=row.note,
        actor=row.actor,
        flagged=tuple(dict.fromkeys(reason.label for reason in before.reasons)),
        scores=before.scores,
        policy=before.policy,
        models=tuple(before.models),
        created=row.created,
        audit=bool(row.audit),
    )
