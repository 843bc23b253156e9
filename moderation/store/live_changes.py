"""What happens to a stream whose row is locked: its state, its alerts, and who is told.

Every transaction locks the lease first (`lock_stream`), and tells last (`tell`): whoever takes
the stream over meanwhile waits, and events of a tenant are in order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, insert, select, update

from moderation.ids import new_id
from moderation.store.codec import iso
from moderation.store.events import append
from moderation.store.live_records import AlertRow, AlertState, ClipRow, Desired, StreamLease
from moderation.store.tables import alert, outbox, stream, stream_lease
from moderation.types import Decision, StreamState

MAX_DETAIL = 500
CALLED_BACK = (StreamState.STALLED, StreamState.AUTH_FAILED, StreamState.ENDED, StreamState.FAILED)
"""States that callbacks tell of: somebody may have to look after the source. Events tell of all."""


@dataclass(frozen=True, slots=True)
class HeldStream:
    """A stream whose rows this transaction has locked."""

    id: str
    tenant: str
    data_id: str | None
    callback_url: str | None
    cut_callback_url: str | None
    policy_version: str
    desired: Desired
    state: StreamState
    last_frame: datetime | None
    owner: str | None


@dataclass(frozen=True, slots=True)
class Told:
    """Something to tell. target: where a callback goes; None: it is an event alone."""

    kind: str
    data: dict[str, Any]
    target: str | None = None
    event: bool = True


def lock_stream(connection: Connection, *conditions: ColumnElement[bool]) -> HeldStream | None:
    """Locks the stream that meets the conditions; None when there is none."""
    query = (
        select(
            stream.c.id,
            stream.c.tenant,
            stream.c.data_id,
            stream.c.callback_url,
            stream.c.cut_callback_url,
            stream.c.policy_version,
            stream.c.desired,
            stream.c.state,
            stream.c.last_frame,
            stream_lease.c.owner,
        )
        .join(stream_lease, stream_lease.c.stream_id == stream.c.id)
        .where(*conditions)
        .with_for_update(of=[stream_lease, stream])
    )
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        return None
    known = {"desired": Desired(row["desired"]), "state": StreamState(row["state"])}
    return HeldStream(**{**row, **known})


def owned_by(lease: StreamLease, now: datetime) -> tuple[ColumnElement[bool], ...]:
    """The lease still holds at this moment."""
    return (
        stream_lease.c.stream_id == lease.stream_id,
        stream_lease.c.owner == lease.owner,
        stream_lease.c.generation == lease.generation,
        stream_lease.c.lease_until > now,
        stream_lease.c.wanted,
    )


def change_state(
    connection: Connection,
    held: HeldStream,
    state: StreamState,
    detail: str | None,
    now: datetime,
) -> list[Told]:
    """Puts a stream into a state; what is to be told. Nothing when it is in it already. One that
    is over has no owner and no open alert."""
    if state is held.state:
        return []
    detail = None if detail is None else detail[:MAX_DETAIL]
    connection.execute(
        update(stream)
        .where(stream.c.id == held.id)
        .values(state=state.value, detail=detail, since=now, updated=now)
    )
    told: list[Told] = []
    if state.over:
        told += close_alerts(connection, held, now)
        dismiss(connection, held)
    data = {
        "stream_id": held.id,
        "data_id": held.data_id,
        "state": state.value,
        "previous": held.state.value,
        "detail": detail,
    }
    target = held.callback_url if state in CALLED_BACK else None
    return [*told, Told("stream.state", data, target)]


def dismiss(connection: Connection, held: HeldStream) -> None:
    """Nobody owns the stream any more, and nobody is to take it. Writes of its last owner are
    refused from now on."""
    connection.execute(
        update(stream_lease)
        .where(stream_lease.c.stream_id == held.id)
        .values(
            wanted=False,
            owner=None,
            lease_until=None,
            memory=None,
            generation=stream_lease.c.generation + 1,
        )
    )


def close_alerts(connection: Connection, held: HeldStream, now: datetime) -> list[Told]:
    """Closes all open alerts of a stream that is over; what is to be told."""
    query = (
        select(alert)
        .where(alert.c.stream_id == held.id, alert.c.state == AlertState.OPEN.value)
        .order_by(alert.c.id)
    )
    told = []
    for row in connection.execute(query).mappings().all():
        last = held.last_frame
        end = last if last is not None and last > row["captured"] else row["captured"]
        changed = connection.execute(
            update(alert)
            .where(alert.c.id == row["id"])
            .values(state=AlertState.CLOSED.value, end=row["end"] or end, updated=now)
            .returning(alert)
        )
        closed = alert_row(changed.mappings().one())
        told.append(Told("alert.closed", alert_data(held, closed), held.callback_url))
    return told


def tell(connection: Connection, held: HeldStream, told: Iterable[Told], now: datetime) -> None:
    """Writes callbacks, then events. Nothing may follow it in the transaction but its commit."""
    what = list(told)
    callbacks = [
        {
            "id": new_id("out"),
            "tenant": held.tenant,
            "kind": "callback",
            "event_id": new_id("evt"),
            "job_id": None,
            "target": one.target,
            "payload": {"type": one.kind, "timestamp": iso(now), "data": one.data},
            "state": "pending",
            "attempts": 0,
            "due": now,
            "created": now,
        }
        for one in what
        if one.target is not None
    ]
    if callbacks:
        connection.execute(insert(outbox), callbacks)
    for one in what:
        if one.event:
            append(
                connection,
                tenant=held.tenant,
                kind=one.kind,
                item_id=None,
                stream_id=held.id,
                data=one.data,
                now=now,
            )


def alert_data(held: HeldStream, row: AlertRow) -> dict[str, Any]:
    """What events and callbacks say of an alert."""
    return {
        "alert_id": row.id,
        "stream_id": row.stream_id,
        "data_id": held.data_id,
        "label": row.label,
        "sublabel": row.sublabel,
        "score": round(row.score, 4),
        "threshold": row.threshold,
        "decision": row.decision.value,
        "policy": row.policy,
        "start": iso(row.start),
        "captured": iso(row.captured),
        "end": None if row.end is None else iso(row.end),
        "boxes": [list(box) for box in row.boxes],
        "item_id": row.item_id,
    }


def alert_row(row: RowMapping) -> AlertRow:
    values = dict(row)
    values["state"] = AlertState(values["state"])
    values["decision"] = Decision(values["decision"])
    values["boxes"] = tuple(tuple(box) for box in values["boxes"])
    kept = values.pop("evidence").get("clip")
    clip = kept and ClipRow(**{**kept, "begun": datetime.fromisoformat(kept["begun"])})
    return AlertRow(**values, clip=clip)
