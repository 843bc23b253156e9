"""What the models miss: what people found among the passes that were drawn for an audit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Select, exists, func, select, text

from moderation.chance import Interval, wilson
from moderation.store.engine import Database
from moderation.store.review_records import Action, ReviewState
from moderation.store.review_tables import review, review_decision
from moderation.store.tables import PASSED_BY_POLICY
from moderation.store.tables import verdict as verdicts

MOST_AUDITS: Final = 100_000
"""The newest ones that people decided are read."""


@dataclass(frozen=True, slots=True)
class Missed:
    """How many of the audited passes people blocked. count: those that they decided. label: what
    for; None: whatever for."""

    hits: int
    count: int
    label: str | None = None

    @property
    def rate(self) -> float:
        """0..1; of none, 0."""
        return self.hits / self.count if self.count else 0.0

    @property
    def interval(self) -> Interval:
        """Of the rate, 95 %, by Wilson. It takes the audited ones as drawn from endlessly many: too
        wide, and never too narrow, where most passes were audited."""
        return wilson(self.hits, self.count)

    def among(self, passes: int) -> tuple[float, float, float]:
        """How many of so many passes are misses by this rate; at least, and at most, by its
        interval."""
        low, high = self.interval
        return passes * self.rate, passes * low, passes * high


@dataclass(frozen=True, slots=True)
class Misses:
    """Of what the policy passed by itself since a moment. passes: all of that. waiting: drawn, and
    not decided yet. labels: what people blocked for, the most frequent first; an item that was
    blocked for two counts twice, and one that was blocked for none is in `missed` alone."""

    passes: int
    waiting: int
    missed: Missed
    labels: tuple[Missed, ...]


def misses(db: Database, tenant: str, since: datetime) -> Misses:
    """What was passed since then, and audited. An item that was deleted is in no number. Raises
    StoreError."""
    passed = (
        select(func.count())
        .select_from(verdicts)
        .where(verdicts.c.tenant == tenant, verdicts.c.created >= since, text(PASSED_BY_POLICY))
    )
    drawn = (
        review.c.tenant == tenant,
        review.c.audit.is_(True),
        # The time of the verdict, as above.
        review.c.created >= since,
    )
    # Taking a decision back appends the verdict before it anew: that is no other pass.
    repeated = (
        select(func.count())
        .select_from(review_decision)
        .join(verdicts, verdicts.c.id == review_decision.c.before_id)
        .where(
            review_decision.c.tenant == tenant,
            review_decision.c.undone >= since,
            review_decision.c.verdict_id.is_not(None),
            text(PASSED_BY_POLICY),
        )
    )
    waits = select(func.count()).where(*drawn, review.c.state == ReviewState.OPEN.value)
    with db.connect() as connection:
        passes = connection.execute(passed).scalar_one()
        passes -= connection.execute(repeated).scalar_one()
        waiting = connection.execute(waits).scalar_one()
        decided = connection.execute(_decided(*drawn)).all()
    return _counted(decided, passes=passes, waiting=waiting)


def _decided(*drawn: Any) -> Select[Any]:
    """The last decision of each, if it was not escalated since."""
    later = review_decision.alias()
    superseded = exists().where(
        later.c.item_id == review_decision.c.item_id,
        later.c.id > review_decision.c.id,
        later.c.undone.is_(None),
    )
    return (
        select(review_decision.c.action, review_decision.c.label, review_decision.c.labels)
        .join(review, review.c.item_id == review_decision.c.item_id)
        .where(
            *drawn,
            review.c.state == ReviewState.DECIDED.value,
            review_decision.c.undone.is_(None),
            review_decision.c.action != Action.ESCALATE.value,
            ~superseded,
        )
        .order_by(review.c.item_id.desc())
        .limit(MOST_AUDITS)
    )


def _counted(decided: Iterable[Any], *, passes: int, waiting: int) -> Misses:
    rows = list(decided)
    blocked = [row for row in rows if row.action == Action.BLOCK]
    labels: Counter[str] = Counter()
    for row in blocked:
        named = {name for name, word in row.labels.items() if word == "confirmed"}
        labels.update(named | ({row.label} if row.label else set()))
    found = [Missed(hits, len(rows), label) for label, hits in labels.items()]
    return Misses(
        passes=passes,
        waiting=waiting,
        missed=Missed(len(blocked), len(rows)),
        labels=tuple(sorted(found, key=lambda one: (-one.hits, one.label or ""))),
    )
