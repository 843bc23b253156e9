"""Frozen rows and arguments of live streams, as the other layers see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from moderation.packed_scores import PackedScores
from moderation.policy import Policy
from moderation.store.records import NewMedia
from moderation.types import Coverage, Decision, StreamState

DEFAULT_INTERVAL_MS = 1000
DEFAULT_HOLD_S = 10.0

Boxes = tuple[tuple[float, float, float, float, float], ...]


class Desired(StrEnum):
    """What the caller wants of a stream; its state says what became of that."""

    RUN = "run"
    STOP = "stop"


class AlertState(StrEnum):
    OPEN = "open"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class NewStream:
    """A stream to watch. `url` may have credentials, `shown` has none.

    hold_s: seconds that a label must be away before its alert is closed. priority: 0 to 9, the most
    urgent. cut_callback_url: called when the policy blocks. request_hash: what must be the same
    under one idempotency key. pinned: later versions of the policy do not concern it.
    """

    tenant: str
    url: str = field(repr=False)
    shown: str
    policy: Policy
    interval_ms: int = DEFAULT_INTERVAL_MS
    hold_s: float = DEFAULT_HOLD_S
    priority: int = 0
    data_id: str | None = None
    callback_url: str | None = field(default=None, repr=False)
    cut_callback_url: str | None = field(default=None, repr=False)
    idempotency_key: str | None = None
    request_hash: str | None = None
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class StreamChanges:
    """What a caller changes of a stream; None: it stays. `desired` RUN starts one that is over.
    pinned: of a policy that is given, as in `NewStream`."""

    policy: Policy | None = None
    pinned: bool = False
    interval_ms: int | None = None
    priority: int | None = None
    desired: Desired | None = None


@dataclass(frozen=True, slots=True)
class StreamRow:
    """A stream as callers may see it: `url` is without credentials.

    policy: `id@version`. since: when its state began. last_frame: capture time of the newest
    frame. scores: of that frame, by label. watched: a supervisor holds its lease now.
    """

    id: str
    tenant: str
    url: str
    policy: str
    interval_ms: int
    hold_s: float
    priority: int
    data_id: str | None
    desired: Desired
    revision: int
    state: StreamState
    detail: str | None
    since: datetime
    frames_seen: int
    frames_dropped: int
    reconnects: int
    last_frame: datetime | None
    scores: Mapping[str, float]
    created: datetime
    updated: datetime
    watched: bool


@dataclass(frozen=True, slots=True)
class StreamCount:
    """Frames of a stream since it was made. last_frame: as of `StreamRow`."""

    id: str
    seen: int
    dropped: int
    reconnects: int
    last_frame: datetime | None


@dataclass(frozen=True, slots=True)
class StreamPage:
    """Newest first. `next_cursor`: opaque; None on the last page."""

    streams: tuple[StreamRow, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class StreamLease:
    """Names an ownership. Whatever is written under it is refused once `generation` is not the
    stream's any more, another owns it, or it ran out."""

    stream_id: str
    owner: str
    generation: int


@dataclass(frozen=True, slots=True)
class OwnedStream:
    """What the owner of a stream works by. revision: that of these values; `renew` tells a
    higher one when they changed. memory: what the last owner left, as `record` was given it."""

    lease: StreamLease
    tenant: str
    url: str = field(repr=False)
    shown: str
    policy: Policy
    interval_ms: int
    hold_s: float
    priority: int
    data_id: str | None
    revision: int
    state: StreamState
    memory: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """What an owner saw since its last report: counts to add, and the newest frame."""

    frames_seen: int = 0
    frames_dropped: int = 0
    reconnects: int = 0
    last_frame: datetime | None = None
    scores: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class AlertChange:
    """What a frame did to a segment of a stream. All times are capture times.

    start: of the segment's first frame. captured: of the frame that opened the alert. end: of the
    last frame that shows it; of a closed one.
    """

    kind: Literal["opened", "escalated", "closed"]
    label: str
    decision: Decision
    score: float
    start: datetime
    captured: datetime
    end: datetime | None = None
    threshold: float | None = None
    sublabel: str | None = None
    boxes: Boxes = ()


@dataclass(frozen=True, slots=True)
class ClipRow:
    """A film around an alert, in the media store. size: bytes."""

    key: str
    media_type: str
    size: int
    begun: datetime


@dataclass(frozen=True, slots=True, eq=False)
class AlertEvidence:
    """What was kept of a stream around an alert; its bytes are in the media store.

    media: a video with its duration (a clip), or an image (the opening frame, where no clip can be
    made). begun: capture time of its first frame. scores: of the frames within, their times from
    `begun` on. coverage: how many of them were looked at.
    """

    media: NewMedia
    media_type: str
    begun: datetime
    scores: PackedScores | None
    coverage: Coverage


@dataclass(frozen=True, slots=True)
class AlertRow:
    """One alert of one segment. item_id, clip: None until they are made, and once the item was
    deleted. clip: None too where only a picture could be kept."""

    id: str
    tenant: str
    stream_id: str
    state: AlertState
    label: str
    sublabel: str | None
    decision: Decision
    score: float
    threshold: float | None
    policy: str
    start: datetime
    captured: datetime
    end: datetime | None
    boxes: Boxes
    item_id: str | None
    clip: ClipRow | None
    created: datetime
    updated: datetime


@dataclass(frozen=True, slots=True)
class Recorded:
    """A change that was told: its event's kind, and the alert as it is now."""

    kind: Literal["alert.opened", "alert.escalated", "alert.closed"]
    alert: AlertRow


@dataclass(frozen=True, slots=True)
class Census:
    """Who holds how many of the streams that are to run. free: held by nobody, or by one whose
    lease ran out."""

    wanted: int
    free: int
    held: Mapping[str, int]
