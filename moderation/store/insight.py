"""How the work goes: what came in, what people decided, and how often the models were right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from statistics import median
from typing import Any, Final

from sqlalchemy import ColumnElement, Date, String, cast, func, select

from moderation.store.codec import clock
from moderation.store.engine import Database
from moderation.store.misses import Misses, misses
from moderation.store.review_records import Action
from moderation.store.review_tables import review, review_decision
from moderation.store.tables import item

MOST_DECISIONS: Final = 100_000
"""The newest ones are read: a busy month of twenty people."""


@dataclass(frozen=True, slots=True)
class Day:
    """Items that came on a day (UTC), by the decision in force now; `open` has none yet."""

    day: date
    passed: int
    review: int
    blocked: int
    open: int

    @property
    def total(self) -> int:
        return self.passed + self.review + self.blocked + self.open


@dataclass(frozen=True, slots=True)
class LabelRow:
    """How often people agreed that a label the models named was there. right: they confirmed it,
    or blocked for it; wrong: they rejected it, or let the item pass."""

    label: str
    right: int
    wrong: int

    @property
    def precision(self) -> float:
        return self.right / (self.right + self.wrong)


@dataclass(frozen=True, slots=True)
class PersonRow:
    """actor: an account or a key. seconds: the median from claim to decision; None: unknown."""

    actor: str
    made: int
    undone: int
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Insight:
    """Of the days since `since`. labels: of what a verdict sent to people. automated: share of the
    decided items that nobody had to look at, be they audited or not; None: nothing was decided.
    misses: what audits found."""

    since: datetime
    days: tuple[Day, ...]
    labels: tuple[LabelRow, ...]
    people: tuple[PersonRow, ...]
    actions: Mapping[str, int]
    automated: float | None
    misses: Misses


def insight(db: Database, tenant: str, *, days: int = 30, now: datetime | None = None) -> Insight:
    """days: today (UTC) and those before it. Raises StoreError."""
    today = clock(now).replace(hour=0, minute=0, second=0, microsecond=0)
    since = today - timedelta(days=days - 1)
    came = select(_day(db, item.c.created).label("day"), item.c.decision, func.count().label("n"))
    came = came.where(item.c.tenant == tenant, item.c.created >= since)
    came = came.group_by("day", item.c.decision)
    looked_at = (
        select(func.count())
        .select_from(review)
        .join(item, item.c.id == review.c.item_id)
        .where(review.c.tenant == tenant, review.c.audit.is_(False), item.c.created >= since)
    )
    made = (
        select(
            review_decision.c.actor,
            review_decision.c.action,
            review_decision.c.label,
            review_decision.c.labels,
            review_decision.c.seconds,
            review_decision.c.undone,
            review.c.label.label("named"),
            review.c.audit,
        )
        .join(review, review.c.item_id == review_decision.c.item_id)
        .where(review_decision.c.tenant == tenant, review_decision.c.created >= since)
        .order_by(review_decision.c.id.desc())
        .limit(MOST_DECISIONS)
    )
    with db.connect() as connection:
        by_day = connection.execute(came).all()
        people_saw = connection.execute(looked_at).scalar_one()
        rows = connection.execute(made).all()
    whole = _days(by_day, since.date(), days)
    decided = sum(day.total - day.open for day in whole)
    kept = [row for row in rows if row.undone is None]
    return Insight(
        since=since,
        days=whole,
        labels=_labels([row for row in kept if not row.audit]),
        people=_people(rows),
        actions=Counter(row.action for row in kept),
        automated=None if decided == 0 else max(0.0, 1 - people_saw / decided),
        misses=misses(db, tenant, since),
    )


def _day(db: Database, column: ColumnElement[Any]) -> ColumnElement[Any]:
    """The date (UTC) of a moment, as text: the two databases have no word in common for it."""
    if db.dialect == "sqlite":
        return func.date(column, type_=String)
    return cast(cast(func.timezone("UTC", column), Date), String)


def _days(rows: Sequence[Any], first: date, days: int) -> tuple[Day, ...]:
    """Days on which nothing came are there too."""
    counts: dict[tuple[str, str | None], int] = {(row.day, row.decision): row.n for row in rows}
    whole = []
    for number in range(days):
        day = first + timedelta(days=number)
        passed, asked, blocked, undecided = (
            counts.get((day.isoformat(), decision), 0)
            for decision in ("pass", "review", "block", None)
        )
        whole.append(Day(day, passed, asked, blocked, undecided))
    return tuple(whole)


def _labels(rows: Sequence[Any]) -> tuple[LabelRow, ...]:
    """What was said of a label counts; of the gravest one, where nothing was said, the decision."""
    right: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for row in rows:
        for label, word in row.labels.items():
            (right if word == "confirmed" else wrong)[label] += 1
        if row.named is None or row.named in row.labels or row.action == Action.ESCALATE:
            continue
        agreed = row.action == Action.BLOCK and row.label in (None, row.named)
        (right if agreed else wrong)[row.named] += 1
    found = [LabelRow(label, right[label], wrong[label]) for label in {*right, *wrong}]
    return tuple(sorted(found, key=lambda one: (-(one.right + one.wrong), one.label)))


def _people(rows: Sequence[Any]) -> tuple[PersonRow, ...]:
    by_actor: dict[str, list[Any]] = {}
    for row in rows:
        by_actor.setdefault(row.actor, []).append(row)
    found = []
    for actor, own in by_actor.items():
        took = [row.seconds for row in own if row.seconds is not None]
        undone = sum(row.undone is not None for row in own)
        found.append(PersonRow(actor, len(own), undone, median(took) if took else None))
    return tuple(sorted(found, key=lambda one: (-one.made, one.actor)))
