"""Items and their verdicts, to read."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, RowMapping, exists, select

from moderation.errors import NotFoundError
from moderation.packed_scores import PackedScores
from moderation.store.codec import dump_cursor, load_cursor, load_verdict
from moderation.store.engine import Database
from moderation.store.records import ItemFilter, ItemRow, JobState, Page
from moderation.store.score_rows import load_scores
from moderation.store.tables import item, job, media, scores, verdict_label
from moderation.store.tables import verdict as verdicts
from moderation.types import Verdict

_ITEMS = (
    select(
        item.c.id,
        item.c.tenant,
        item.c.job_id,
        job.c.state,
        item.c.created,
        item.c.source,
        item.c.data_id,
        item.c.media_id,
        media.c.sha256,
        media.c.format,
        media.c.size,
        media.c.width,
        media.c.height,
        media.c.kind,
        media.c.duration_s,
        item.c.stream_id,
        verdicts.c.body,
    )
    .join(job, job.c.id == item.c.job_id)
    .join(media, media.c.id == item.c.media_id)
    .outerjoin(verdicts, verdicts.c.id == item.c.current_verdict)
)


def get_item(db: Database, tenant: str, item_id: str) -> ItemRow:
    """An item with its verdict in force. Raises NotFoundError, also for another tenant's."""
    query = _ITEMS.where(item.c.id == item_id, item.c.tenant == tenant)
    with db.connect() as connection:
        row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise NotFoundError(f"There is no item {item_id}.")
    return _item_row(row)


def by_ids(db: Database, tenant: str, item_ids: Sequence[str]) -> dict[str, ItemRow]:
    """Those of the items that there are, by id. Raises StoreError."""
    query = _ITEMS.where(item.c.tenant == tenant, item.c.id.in_(item_ids))
    with db.connect() as connection:
        rows = connection.execute(query).mappings().all()
    return {row["id"]: _item_row(row) for row in rows}


def history(db: Database, tenant: str, item_id: str) -> list[Verdict]:
    """All verdicts of an item, oldest first; none for an item that is not the tenant's."""
    query = (
        select(verdicts.c.body)
        .where(verdicts.c.item_id == item_id, verdicts.c.tenant == tenant)
        .order_by(verdicts.c.id)
    )
    with db.connect() as connection:
        return [load_verdict(body) for body in connection.execute(query).scalars()]


def verdict_of_job(db: Database, job_id: str) -> Verdict | None:
    """The verdict that a job ended with, or that was written since; None while it has not, and
    while it is asked anew because a decision was taken back (`recall`)."""
    query = (
        select(verdicts.c.body)
        .join(job, job.c.id == verdicts.c.job_id)
        .where(verdicts.c.job_id == job_id, job.c.ended.is_not(None))
        .order_by(verdicts.c.id.desc())
        .limit(1)
    )
    with db.connect() as connection:
        body = connection.execute(query).scalar_one_or_none()
    return None if body is None else load_verdict(body)


def list_items(
    db: Database,
    tenant: str,
    flt: ItemFilter,
    *,
    limit: int = 50,
    cursor: str | None = None,
) -> Page:
    """Items of a tenant, newest first, `limit` to a page (at least 1).

    Items that arrive while one pages come before the first page: none is shown twice and none
    that was there is left out. Raises InputError (cursor_invalid).
    """
    query = _ITEMS.where(item.c.tenant == tenant, *_conditions(flt))
    if cursor is not None:
        query = query.where(item.c.id < load_cursor(cursor))
    size = max(1, limit)
    query = query.order_by(item.c.id.desc()).limit(size + 1)
    with db.connect() as connection:
        rows = connection.execute(query).mappings().all()
    shown = tuple(_item_row(row) for row in rows[:size])
    more = len(rows) > size
    return Page(items=shown, next_cursor=dump_cursor(shown[-1].id) if more else None)


def scores_of_job(db: Database, tenant: str, job_id: str) -> list[PackedScores]:
    """The packed scores that a job stored, one for each set of models."""
    query = (
        select(scores)
        .where(scores.c.job_id == job_id, scores.c.tenant == tenant)
        .order_by(scores.c.models)
    )
    with db.connect() as connection:
        rows = connection.execute(query).mappings().all()
    return [load_scores(row) for row in rows]


def _conditions(flt: ItemFilter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if flt.decision is not None:
        found.append(item.c.decision == flt.decision.value)
    if flt.status is not None:
        found.append(item.c.status == flt.status.value)
    if flt.state is not None:
        found.append(job.c.state == flt.state.value)
    if flt.label is not None:
        named = exists().where(
            verdict_label.c.verdict_id == item.c.current_verdict,
            verdict_label.c.label == flt.label,
        )
        found.append(named)
    if flt.data_id is not None:
        found.append(item.c.data_id == flt.data_id)
    if flt.source is not None:
        found.append(item.c.source == flt.source)
    if flt.stream_id is not None:
        found.append(item.c.stream_id == flt.stream_id)
    if flt.since is not None:
        found.append(item.c.created >= flt.since)
    if flt.until is not None:
        found.append(item.c.created < flt.until)
    return found


def _item_row(row: RowMapping) -> ItemRow:
    values = dict(row)
    body = values.pop("body")
    values["state"] = JobState(values["state"])
    return ItemRow(**values, verdict=None if body is None else load_verdict(body))
