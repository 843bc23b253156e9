"""What people see of an item beside its verdict: its medium, the policy, the scores over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import RowMapping, Select, select

from moderation.errors import NotFoundError
from moderation.policy import Policy
from moderation.store.codec import load_policy, load_verdict, unpack_f32
from moderation.store.engine import Database
from moderation.store.records import PackedScores
from moderation.store.tables import item, job, media, policy_version, scores
from moderation.store.tables import verdict as verdicts
from moderation.types import Verdict


@dataclass(frozen=True, slots=True)
class Shown:
    """An item, its medium and the policy that its latest job runs by. kind: image or video.
    duration_s: once it is known."""

    item_id: str
    job_id: str
    media_id: str
    kind: str
    duration_s: float | None
    policy: Policy
    verdict: Verdict | None


def shown(db: Database, tenant: str, item_id: str) -> Shown:
    """Raises NotFoundError, also for another tenant's item; StoreError."""
    query = (
        select(
            item.c.job_id,
            item.c.media_id,
            media.c.kind,
            media.c.duration_s,
            policy_version.c.body.label("policy"),
            verdicts.c.body.label("verdict"),
        )
        .join(media, media.c.id == item.c.media_id)
        .join(job, job.c.id == item.c.job_id)
        .join(policy_version, policy_version.c.id == job.c.policy_version)
        .outerjoin(verdicts, verdicts.c.id == item.c.current_verdict)
        .where(item.c.id == item_id, item.c.tenant == tenant)
    )
    with db.connect() as connection:
        row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise NotFoundError(f"There is no item {item_id}.")
    return Shown(
        item_id=item_id,
        job_id=row["job_id"],
        media_id=row["media_id"],
        kind=row["kind"],
        duration_s=row["duration_s"],
        policy=load_policy(row["policy"]),
        verdict=None if row["verdict"] is None else load_verdict(row["verdict"]),
    )


def scores_of(db: Database, what: Shown) -> tuple[PackedScores, ...]:
    """The scores that the item's verdict rests on, one for each set of models.

    One that was answered from an earlier analysis of the same bytes has none of its own: then
    those of the newest such analysis.
    """
    with db.connect() as connection:
        rows = connection.execute(_scores(scores.c.job_id == what.job_id)).mappings().all()
        if not rows:
            newest = (
                select(scores.c.job_id)
                .where(scores.c.media_id == what.media_id)
                .order_by(scores.c.job_id.desc())
                .limit(1)
                .scalar_subquery()
            )
            rows = connection.execute(_scores(scores.c.job_id == newest)).mappings().all()
    return tuple(packed(row) for row in rows)


def _scores(condition: Any) -> Select[Any]:
    return select(scores).where(condition).order_by(scores.c.models)


def packed(row: RowMapping) -> PackedScores:
    """The scores of a row. Every reader of stored scores comes by here."""
    return PackedScores(
        labels=tuple(row["labels"]),
        models=tuple(row["models"].split(",")),
        values=unpack_f32(row["packed"], (row["views"], len(row["labels"]))),
        times=unpack_f32(row["times"], (row["views"],)),
    )
