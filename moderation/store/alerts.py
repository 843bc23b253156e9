"""Alerts of live streams: one a segment, written by the owner of the stream alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, or_, select, update

from moderation.errors import NotFoundError
from moderation.ids import new_id
from moderation.policy import Policy
from moderation.store import alert_items
from moderation.store.codec import clock
from moderation.store.ending import policy_of
from moderation.store.engine import Database
from moderation.store.live_changes import (
    HeldStream,
    Told,
    alert_data,
    alert_row,
    lock_stream,
    owned_by,
    tell,
)
from moderation.store.live_records import (
    AlertChange,
    AlertRow,
    AlertState,
    Recorded,
    StreamLease,
)
from moderation.store.tables import alert, stream, stream_lease
from moderation.types import Decision

CUT = "stream.cut"
"""Type of the callback to `cut_callback_url`."""


def record(
    db: Database,
    lease: StreamLease,
    changes: Sequence[AlertChange],
    *,
    memory: Mapping[str, Any] | None = None,
    now: datetime | None = None,
) -> tuple[Recorded, ...] | None:
    """Writes what frames did to the segments of a stream, in one transaction with events,
    callbacks and what the next owner has to know (`memory`; None: as it is).

    Returns what was told; None, and nothing written, when the lease does not hold. A segment that
    has an alert gets no second one: what is opened twice, by a new owner above all, is the same
    alert. The cut callback is written once an alert, when it blocks under a policy that is live.
    Raises StoreError.
    """
    moment = clock(now)
    with db.begin() as connection:
        held = lock_stream(connection, *owned_by(lease, moment))
        if held is None:
            return None
        if memory is not None:
            connection.execute(
                update(stream_lease)
                .where(stream_lease.c.stream_id == held.id)
                .values(memory=dict(memory))
            )
        recorded: list[_Done] = []
        if changes:
            policy = policy_of(connection, held.policy_version)
            done = (_apply(connection, held, policy, change, moment) for change in changes)
            recorded = [one for one in done if one is not None]
            graver = [one.recorded.alert for one in recorded if one.graver]
            alert_items.revise(connection, graver, moment)
            tell(connection, held, _told(held, policy, recorded), moment)
    return tuple(one.recorded for one in recorded)


def of_stream(
    db: Database,
    tenant: str,
    stream_id: str,
    *,
    state: AlertState | None = None,
    limit: int = 100,
) -> list[AlertRow]:
    """The newest alerts of a stream, the newest first. Raises StoreError."""
    query = (
        select(alert)
        .where(alert.c.tenant == tenant, alert.c.stream_id == stream_id)
        .order_by(alert.c.id.desc())
        .limit(limit)
    )
    if state is not None:
        query = query.where(alert.c.state == state.value)
    with db.connect() as connection:
        return [alert_row(row) for row in connection.execute(query).mappings()]


def get(db: Database, tenant: str, stream_id: str, alert_id: str) -> AlertRow:
    """One alert of a stream that is not deleted. Raises NotFoundError, StoreError."""
    query = (
        select(alert)
        .join(stream, stream.c.id == alert.c.stream_id)
        .where(
            alert.c.id == alert_id,
            alert.c.tenant == tenant,
            alert.c.stream_id == stream_id,
            stream.c.deleted.is_(None),
        )
    )
    with db.connect() as connection:
        row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise NotFoundError(f"There is no alert {alert_id} of {stream_id}.")
    return alert_row(row)


@dataclass(frozen=True, slots=True)
class _Done:
    """`graver`: than it was; `cuts`: it blocks only since this change."""

    recorded: Recorded
    graver: bool
    cuts: bool


def _apply(
    connection: Connection,
    held: HeldStream,
    policy: Policy,
    change: AlertChange,
    now: datetime,
) -> _Done | None:
    """Writes one change; None where there is nothing to tell."""
    known = _known(connection, held, change)
    if known is None:
        if change.kind == "closed":
            return None
        opened = _insert(connection, held, policy, change, now)
        return _Done(Recorded("alert.opened", opened), False, opened.decision is Decision.BLOCK)
    graver = change.decision.severity > known.decision.severity
    closes = change.kind == "closed" and known.state is AlertState.OPEN
    values: dict[str, Any] = {"updated": now}
    if change.score > known.score:
        values |= {"score": change.score, "sublabel": change.sublabel}
        values |= {"boxes": [list(box) for box in change.boxes]} if change.boxes else {}
    if graver:
        values |= {"decision": change.decision.value, "threshold": change.threshold}
    if closes:
        values |= {"state": AlertState.CLOSED.value, "end": change.end or change.captured}
    row = connection.execute(
        update(alert).where(alert.c.id == known.id).values(values).returning(alert)
    )
    current = alert_row(row.mappings().one())
    cuts = graver and current.decision is Decision.BLOCK
    if closes:
        return _Done(Recorded("alert.closed", current), graver, cuts)
    if graver:
        return _Done(Recorded("alert.escalated", current), graver, cuts)
    return None


def _known(connection: Connection, held: HeldStream, change: AlertChange) -> AlertRow | None:
    """The alert of this segment: the open one of its label, or one that reached into it."""
    query = (
        select(alert)
        .where(
            alert.c.stream_id == held.id,
            alert.c.label == change.label,
            or_(alert.c.state == AlertState.OPEN.value, alert.c.end >= change.start),
        )
        # "open" is above "closed".
        .order_by(alert.c.state.desc(), alert.c.id.desc())
        .limit(1)
    )
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else alert_row(row)


def _insert(
    connection: Connection,
    held: HeldStream,
    policy: Policy,
    change: AlertChange,
    now: datetime,
) -> AlertRow:
    values: dict[str, Any] = {
        "id": new_id("alert"),
        "tenant": held.tenant,
        "stream_id": held.id,
        "state": AlertState.OPEN.value,
        "label": change.label,
        "sublabel": change.sublabel,
        "decision": change.decision.value,
        "score": change.score,
        "threshold": change.threshold,
        "policy": policy.ref,
        "start": change.start,
        "captured": change.captured,
        "end": None,
        "item_id": None,
        "boxes": [list(box) for box in change.boxes],
        "evidence": {},
        "created": now,
        "updated": now,
    }
    row = connection.execute(insert(alert).returning(alert), values)
    return alert_row(row.mappings().one())


def _told(held: HeldStream, policy: Policy, recorded: Sequence[_Done]) -> list[Told]:
    told = []
    for one in recorded:
        data = alert_data(held, one.recorded.alert)
        told.append(Told(one.recorded.kind, data, held.callback_url))
        if one.cuts and policy.mode == "live" and held.cut_callback_url is not None:
            told.append(Told(CUT, data, held.cut_callback_url, event=False))
    return told
