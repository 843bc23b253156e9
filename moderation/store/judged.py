"""What was judged under a policy, the newest first, to be judged again."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, func, select, union_all

from moderation.packed_scores import PackedScores
from moderation.policy import Policy
from moderation.store.codec import dump_policy, policy_row_id
from moderation.store.engine import Database
from moderation.store.score_rows import load_scores
from moderation.store.tables import item, job, media, policy_version, scores
from moderation.store.tables import verdict as verdicts
from moderation.types import Decision, Status
from moderation.whatif import Comparison, JudgedItem, LeftOut, Tally

LAST: Final = 10_000
MAX_LAST: Final = 50_000
"""Items that are decided again at once, unless it is said, and at most."""
BATCH: Final = 500
"""Items that are read at once: their scores are what takes memory."""
MAX_VERSIONS: Final = 200
BY_POLICY: Final = ("policy", "duplicate")
"""Who decided, where the rules did, or had done of the same bytes."""


def compare(
    db: Database,
    tenant: str,
    now: Policy,
    then: Policy,
    *,
    last: int,
    since: datetime | None = None,
) -> Comparison:
    """What `then` would have decided of the last items that any version of the policy `now` has
    judged; since: and that came after it. Raises StoreError."""
    tally = Tally(now, then)
    own_row = policy_row_id(tenant, dump_policy(now))
    for batch in _batches(db, tenant, now.id, last, since):
        found = _judged(db, batch, own_row)
        tally.left_out.update(one for one in found if isinstance(one, LeftOut))
        tally.add([one for one in found if isinstance(one, JudgedItem)])
    return tally.result()


@dataclass(frozen=True, slots=True)
class _Facts:
    """What is known of a job beside its scores."""

    job_id: str
    item_id: str
    media_id: str
    kind: str
    live: bool
    policy_row: str


def _batches(
    db: Database, tenant: str, policy_id: str, last: int, since: datetime | None
) -> Iterator[list[_Facts]]:
    escaped = policy_id.replace("_", r"\_")
    versions = (
        select(policy_version.c.id)
        .where(
            policy_version.c.tenant == tenant,
            policy_version.c.ref.like(f"{escaped}@%", escape="\\"),
        )
        .order_by(policy_version.c.created.desc())
        .limit(MAX_VERSIONS)
    )
    with db.connect() as connection:
        rows = connection.execute(versions).scalars().all()
        if not rows:
            return
        # Each from its end of an index: what was judged by a few versions among many is found at
        # once, too.
        newest = [
            select(
                select(job.c.id, job.c.item_id)
                .where(job.c.policy_version == row, job.c.tenant == tenant)
                .order_by(job.c.item_id.desc())
                .limit(last)
                .subquery()
            )
            for row in rows
        ]
        chosen = union_all(*newest).subquery()
        query = (
            select(
                chosen.c.id.label("job_id"),
                chosen.c.item_id,
                item.c.media_id,
                media.c.kind,
                item.c.stream_id,
                job.c.policy_version,
            )
            .join(item, item.c.job_id == chosen.c.id)
            .join(job, job.c.id == chosen.c.id)
            .join(media, media.c.id == item.c.media_id)
            .order_by(chosen.c.item_id.desc())
            .limit(last)
        )
        if since is not None:
            query = query.where(item.c.created >= since)
        found = connection.execute(query).all()
    facts = [
        _Facts(
            row.job_id,
            row.item_id,
            row.media_id,
            row.kind,
            row.stream_id is not None,
            row.policy_version,
        )
        for row in found
    ]
    for start in range(0, len(facts), BATCH):
        yield facts[start : start + BATCH]


def _judged(db: Database, batch: Sequence[_Facts], own_row: str) -> list[JudgedItem | LeftOut]:
    with db.connect() as connection:
        said = _machine(connection, batch)
        people = _people(connection, batch)
        failed = {job_id for job_id, row in said.items() if row.status != Status.DONE.value}
        packed = _scores(connection, batch, failed)
    return [
        _one(
            facts,
            said.get(facts.job_id),
            people.get(facts.item_id),
            packed.get(facts.job_id),
            own_row,
        )
        for facts in batch
    ]


def _one(
    facts: _Facts,
    said: Any | None,
    person: Decision | None,
    packed: PackedScores | None,
    own_row: str,
) -> JudgedItem | LeftOut:
    if facts.live:
        return LeftOut.LIVE
    if said is not None and said.decided_by == "list":
        return LeftOut.LISTED
    failed = said is not None and said.status != Status.DONE.value
    if packed is None and not failed:
        return LeftOut.PENDING if said is None and person is None else LeftOut.UNSCORED
    if packed is not None and packed.basis is None:
        return LeftOut.UNSCORED
    own = (
        said is not None
        and said.decided_by in ("policy", "duplicate")
        and facts.policy_row == own_row
    )
    return JudgedItem(
        item_id=facts.item_id,
        kind=facts.kind,
        packed=packed,
        stored=Decision(said.decision) if said is not None and own else None,
        person=person,
    )


def _machine(connection: Connection, batch: Sequence[_Facts]) -> dict[str, Any]:
    """By job: the last thing that was said of it without a person."""
    query = (
        select(verdicts.c.job_id, verdicts.c.decision, verdicts.c.status, verdicts.c.decided_by)
        .where(
            verdicts.c.job_id.in_([facts.job_id for facts in batch]),
            verdicts.c.decided_by != "person",
        )
        .order_by(verdicts.c.id)
    )
    return {row.job_id: row for row in connection.execute(query)}


def _people(connection: Connection, batch: Sequence[_Facts]) -> dict[str, Decision]:
    query = (
        select(item.c.id, verdicts.c.decision)
        .join(verdicts, verdicts.c.id == item.c.current_verdict)
        .where(item.c.id.in_([facts.item_id for facts in batch]), verdicts.c.decided_by == "person")
    )
    return {row.id: Decision(row.decision) for row in connection.execute(query)}


def _scores(
    connection: Connection, batch: Sequence[_Facts], failed: Collection[str]
) -> dict[str, PackedScores]:
    """By job. One that was answered from an earlier analysis of the same bytes has the newest of
    those, as where it is shown; a failed one was answered from nothing."""
    own = select(scores).where(scores.c.job_id.in_([facts.job_id for facts in batch]))
    found = {row["job_id"]: load_scores(row) for row in connection.execute(own).mappings()}
    borrowing = [one for one in batch if one.job_id not in found and one.job_id not in failed]
    rest = {facts.media_id for facts in borrowing}
    if not rest:
        return found
    newest = (
        select(func.max(scores.c.job_id))
        .where(scores.c.media_id.in_(rest))
        .group_by(scores.c.media_id)
    )
    others = {
        row["media_id"]: load_scores(row)
        for row in connection.execute(select(scores).where(scores.c.job_id.in_(newest))).mappings()
    }
    return found | {
        facts.job_id: others[facts.media_id] for facts in borrowing if facts.media_id in others
    }
