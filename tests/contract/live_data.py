"""Streams for the store's tests."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Any, Literal

from moderation.blobs import blob_key
from moderation.packed_scores import PackedScores
from moderation.store import stream_leases, streams
from moderation.store.engine import Database
from moderation.store.live_records import (
    AlertChange,
    AlertEvidence,
    NewStream,
    OwnedStream,
    StreamLease,
    StreamRow,
)
from moderation.store.records import NewMedia
from moderation.types import Coverage, Decision, LabelScore
from tests.contract.store_data import NOW, POLICY

SECRET_URL = "rtmp://user:pass-4711@studio.example/live/key"
SHOWN_URL = "rtmp://studio.example/live/key"
LEASE_S = 10.0


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


def kept(begun: float = -3.0, *, content: bytes = b"clip", **changes: Any) -> AlertEvidence:
    """A clip of ten seconds that began then, with two frames that were scored."""
    sha256 = hashlib.sha256(content).hexdigest()
    media = NewMedia(
        sha256=sha256,
        size=len(content),
        format="mp4",
        blob_key=blob_key("default", sha256),
        kind="video",
        width=320,
        height=180,
        duration_s=10.0,
    )
    moments = [
        (at_s, {"porn.explicit": LabelScore("porn.explicit", score, "m@1")})
        for at_s, score in ((3.0, 0.1), (4.0, 0.7))
    ]
    values: dict[str, Any] = {
        "media": media,
        "media_type": "video/mp4",
        "begun": later(begun),
        "scores": PackedScores.of(moments, ["m@1"]),
        "coverage": Coverage(frames_total=100, frames_scored=2, complete=True),
    }
    return AlertEvidence(**(values | changes))


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
