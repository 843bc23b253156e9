"""Streams for the store's tests."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Literal

from moderation.store import stream_leases, streams
from moderation.store.engine import Database
from moderation.store.live_records import (
    AlertChange,
    ClipRow,
    NewStream,
    OwnedStream,
    StreamLease,
    StreamRow,
)
from moderation.types import Decision
from tests.contract.store_data import NOW, POLICY

SECRET_URL = "rtmp://user:pass-4711@studio.example/live/key"
SHOWN_URL = "rtmp://studio.example/live/key"
LEASE_S = 10.0
CLIP = ClipRow("alerts/clip.mp4", "video/mp4", 4711, NOW)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def new_stream(**changes: Any) -> NewStream:
    values = {"tenant": "default", "url": SECRET_URL, "shown": SHOWN_URL, "policy": POLICY}
    return NewStream(**(values | changes))


def make(db: Database, number: int = 1, **changes: Any) -> list[StreamRow]:
    return [streams.create(db, new_stream(**changes), now=NOW) for _ in range(number)]


def take_one(db: Database, owner: str = "sup-1", at: float = 0.0) -> OwnedStream:
    (owned,) = stream_leases.take(db, owner, 1, LEASE_S, now=later(at))
    return owned


def owned_stream(db: Database, owner: str = "sup-1", **changes: Any) -> StreamLease:
    """A new stream that this supervisor holds until LEASE_S after NOW."""
    make(db, **changes)
    return take_one(db, owner).lease


def segment(
    kind: Literal["opened", "escalated", "closed"] = "opened",
    at: float = 1.0,
    *,
    start: float = 0.5,
    **changes: Any,
) -> AlertChange:
    """A change of a segment of `porn.explicit` that began at `start`."""
    values: dict[str, Any] = {
        "kind": kind,
        "label": "porn.explicit",
        "decision": Decision.REVIEW,
        "score": 0.6,
        "threshold": 0.5,
        "start": later(start),
        "captured": later(at),
        "end": later(at) if kind == "closed" else None,
    }
    return AlertChange(**(values | changes))
