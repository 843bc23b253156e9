"""What is known of an upload because the same bytes are known: by a list, from a person, from the
models. In this order they answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, Connection, and_, func, select

from moderation.known import MIN_QUALITY, decide, verdict_of
from moderation.store import followers, listed
from moderation.store.codec import model_set
from moderation.store.ending import OpenJob
from moderation.store.passing_on import ORIGIN, Answer, not_taken_back, passed_on
from moderation.store.records import NewItem
from moderation.store.tables import fingerprint, item, job, media
from moderation.store.tables import verdict as verdicts
from moderation.types import Status

VIDEO: Final = "video"


@dataclass(frozen=True, slots=True)
class ByAPerson:
    """A person's decision, as the answer for another item. lists: the version of the tenant's lists
    that it outranks as far as likeness goes."""

    answer: Answer
    lists: int


def by_a_list(connection: Connection, held: OpenJob, new: NewItem, now: datetime) -> Answer | None:
    """What the lists say of these bytes."""
    found = decide(listed.by_sha256(connection, held.tenant, new.media.sha256, now))
    if found is None:
        return None
    verdict = verdict_of(
        found,
        id=held.item_id,
        job_id=held.id,
        source=held.source,
        data_id=held.data_id,
        policy=new.policy.ref,
    )
    return Answer(verdict)


def by_a_person(connection: Connection, held: OpenJob) -> ByAPerson | None:
    """What a person decided on these bytes outranks the models, whatever the policy: the newest
    such decision that is in force."""
    query = (
        select(
            verdicts.c.body,
            ORIGIN.label("origin"),
            func.coalesce(verdicts.c.lists, job.c.lists, 0).label("lists"),
        )
        .join(item, item.c.current_verdict == verdicts.c.id)
        .join(job, job.c.id == item.c.job_id)
        .where(
            _same_bytes(held),
            verdicts.c.decided_by == "person",
            not_taken_back(),
        )
        .order_by(verdicts.c.id.desc())
        .limit(1)
    )
    # Again where it was taken back meanwhile: that has been committed then, and is seen.
    while row := connection.execute(query).one_or_none():
        answer = passed_on(connection, held, row.body, row.origin)
        if answer is not None:
            return ByAPerson(answer, row.lists)
    return None


def still_by_a_person(
    connection: Connection, held: OpenJob, version: int, now: datetime
) -> Answer | None:
    """As `by_a_person`. None, too, where an entry that came later may be near (the lists are at
    `version` now): whoever looks then asks them, and where they say nothing newer the decision is
    passed on in the end."""
    found = by_a_person(connection, held)
    if found is None:
        return None
    if version > found.lists:
        hashes = _hashes(connection, held.media_id)
        if listed.maybe_added(connection, held.tenant, found.lists, hashes, now):
            return None
    return found.answer


def duplicate(
    connection: Connection,
    held: OpenJob,
    new: NewItem,
    models: tuple[str, ...],
    version: int,
    now: datetime,
) -> Answer | None:
    """The newest verdict in force on these bytes, as the answer for the new item. None where the
    lists, which are at `version`, may say something that it does not know."""
    same_way = job.c.kind == new.media.kind
    if new.media.kind == VIDEO:
        same_way = and_(same_way, followers.same_options(new.video))
    query = (
        select(verdicts.c.body, ORIGIN.label("origin"), job.c.lists)
        .join(item, item.c.current_verdict == verdicts.c.id)
        .join(job, job.c.id == item.c.job_id)
        .where(
            _same_bytes(held),
            item.c.status == Status.DONE.value,
            verdicts.c.policy_version == held.policy_version,
            verdicts.c.models == model_set(models),
            verdicts.c.decided_by.in_(("policy", "duplicate", "person")),
            same_way,
        )
        .order_by(item.c.id.desc())
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    since = row.lists or 0
    if version > since:
        hashes = _hashes(connection, held.media_id)
        if listed.maybe_newer(connection, held.tenant, since, hashes, now):
            return None
    return passed_on(connection, held, row.body, row.origin)


def _same_bytes(held: OpenJob) -> ColumnElement[bool]:
    """Of the same tenant, since each has media of its own. Were the tenant named, SQLite would read
    all its items."""
    return item.c.media_id == held.media_id


def _hashes(connection: Connection, media_id: str) -> bytes:
    """PDQ of a picture, or of the frames of a film, as far as they say something: 32 bytes each."""
    query = (
        select(media.c.pdq, media.c.pdq_quality, fingerprint.c.hashes)
        .outerjoin(fingerprint, fingerprint.c.media_id == media.c.id)
        .where(media.c.id == media_id)
    )
    row = connection.execute(query).one()
    plain = row.pdq_quality is not None and row.pdq_quality < MIN_QUALITY
    own = bytes.fromhex(row.pdq) if row.pdq is not None and not plain else b""
    return own + (row.hashes or b"")
