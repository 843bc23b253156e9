"""Scores of lately against those of before, by kind of medium, label and models."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
from sqlalchemy import Connection, and_, or_, select

from moderation.drift import Comparison, compare, share_above
from moderation.store.codec import clock
from moderation.store.engine import Database
from moderation.store.score_rows import load_scores
from moderation.store.tables import job, scores

LATELY: Final = timedelta(days=7)
BEFORE: Final = timedelta(days=28)
SLOT: Final = timedelta(hours=6)
OF_A_SLOT: Final = 50
"""Of each quarter of a day the newest analyses are read: at most 7,000, whatever came, and the same
times of day in both samples."""
MOST_VIEWS: Final = 1_000_000
"""Moments in all that are read: with more, fewer analyses are."""
AT_ONCE: Final = 400

Key = tuple[str, str]
"""Of a row of scores: job and models."""
Limits = Mapping[str, tuple[float | None, float | None]]
"""label -> review_at, block_at."""


@dataclass(frozen=True, slots=True)
class Above:
    """A limit of the policy, and the part of the scores (0..1) that reached it."""

    decision: str
    limit: float
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Drift:
    """kind: image or video. models: those that answer the label, as far as that is known."""

    kind: str
    label: str
    models: tuple[str, ...]
    compared: Comparison
    above: tuple[Above, ...]


@dataclass(frozen=True, slots=True)
class Drifts:
    """Lately: since `since`; before: from `begun` until then. analyses: how many were read of
    each."""

    begun: datetime
    since: datetime
    before: int
    after: int
    rows: tuple[Drift, ...]


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A row of scores that is to be read. after: it is of lately."""

    key: Key
    kind: str
    views: int
    after: bool


def drifts(
    db: Database,
    tenant: str,
    limits: Limits,
    answers: Mapping[str, Collection[str]],
    *,
    now: datetime | None = None,
) -> Drifts:
    """The peak scores of items in the last 7 days against the 28 days before: what has moved most
    comes first. What was kept of live streams is left out: alerts choose it.

    limits: of the policy to tell by. answers: labels that a model answers, by its id; one that is
    not known may answer all. Raises StoreError.
    """
    moment = clock(now)
    since, begun = moment - LATELY, moment - LATELY - BEFORE
    with db.connect() as connection:
        drawn = thinned(_draw(connection, tenant, moment))
        peaks = _peaks(connection, drawn, answers)
    rows = [
        _drift(group, np.array(old), np.array(new), limits) for group, (old, new) in peaks.items()
    ]
    after = sum(one.after for one in drawn)
    return Drifts(begun, since, len(drawn) - after, after, tuple(sorted(rows, key=_order)))


def thinned(drawn: Sequence[_Drawn], most_views: int = MOST_VIEWS) -> Sequence[_Drawn]:
    """Every so manieth, so that no more moments are read than may be."""
    step = -(-sum(one.views for one in drawn) // most_views)
    return drawn[:: max(step, 1)]


def answering(
    models: Iterable[str], label: str, answers: Mapping[str, Collection[str]]
) -> tuple[str, ...]:
    """Those of the models (id@version) that answer a label, or may; all where none of them does by
    what is known today."""
    whole = tuple(models)
    found = tuple(one for one in whole if label in answers.get(one.partition("@")[0], (label,)))
    return found or whole


def _draw(connection: Connection, tenant: str, now: datetime) -> list[_Drawn]:
    found = []
    slots = (LATELY + BEFORE) // SLOT
    for number in range(slots):
        until = now - number * SLOT
        query = (
            select(scores.c.job_id, scores.c.models, scores.c.views, job.c.kind)
            .join(job, job.c.id == scores.c.job_id)
            .where(
                scores.c.tenant == tenant,
                scores.c.created > until - SLOT,
                scores.c.created <= until,
                job.c.kind.in_(("image", "video")),
            )
            .order_by(scores.c.created.desc(), scores.c.job_id.desc(), scores.c.models)
            .limit(OF_A_SLOT)
        )
        after = number < LATELY // SLOT
        for row in connection.execute(query):
            found.append(_Drawn((row.job_id, row.models), row.kind, row.views, after))
    return found


def _peaks(
    connection: Connection, drawn: Sequence[_Drawn], answers: Mapping[str, Collection[str]]
) -> dict[tuple[str, str, tuple[str, ...]], tuple[list[float], list[float]]]:
    """Of each kind, label and models: those of before, and of lately."""
    found: dict[Any, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    by_key = {one.key: one for one in drawn}
    known: dict[tuple[str, tuple[str, ...]], tuple[str, ...]] = {}
    for start in range(0, len(drawn), AT_ONCE):
        part = drawn[start : start + AT_ONCE]
        wanted = or_(
            *(
                and_(scores.c.models == models, scores.c.job_id.in_(jobs))
                for models, jobs in _by_models(part).items()
            )
        )
        for row in connection.execute(select(scores).where(wanted)).mappings():
            one = by_key[row["job_id"], row["models"]]
            told = load_scores(row)
            for label, peak in told.peaks().items():
                asked = (label, told.models)
                if asked not in known:
                    known[asked] = answering(told.models, label, answers)
                found[one.kind, label, known[asked]][one.after].append(peak)
    return found


def _by_models(drawn: Sequence[_Drawn]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for one in drawn:
        job_id, models = one.key
        found[models].append(job_id)
    return found


def _drift(group: tuple[str, str, tuple[str, ...]], old: Any, new: Any, limits: Limits) -> Drift:
    kind, label, models = group
    review_at, block_at = limits.get(label, (None, None))
    above = tuple(
        Above(decision, limit, share_above(old, limit), share_above(new, limit))
        for decision, limit in (("review", review_at), ("block", block_at))
        if limit is not None
    )
    return Drift(kind, label, models, compare(old, new), above)


def _order(one: Drift) -> tuple[float, str, str, tuple[str, ...]]:
    index = one.compared.index
    return (0.0 if index is None else -index, one.label, one.kind, one.models)
