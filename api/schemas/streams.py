"""Bodies of requests and answers about live streams and events, with their examples."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, Final, Self

from fastapi import Header, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from api.schemas.params import TEXT, URL
from moderation.store.live_records import (
    DEFAULT_HOLD_S,
    DEFAULT_INTERVAL_MS,
    AlertRow,
    AlertState,
    Desired,
    StreamRow,
)
from moderation.types import Decision, StreamState, Unit

STREAM: Final = "stream_0198f1c2a7d47b0c8e5f6a7b8c9d0e22"
ALERT: Final = "alert_0198f1c2a7d47b0c8e5f6a7b8c9d0e23"
STARTED: Final = "2026-01-31T12:00:00Z"
SOURCE_URL: Final = r"^[A-Za-z][A-Za-z0-9+.-]*://[^\x00-\x20\x7f]+$"
MAX_TAIL_S: Final = 3600

StreamId = Annotated[str, Path(pattern=r"^stream_[0-9a-f]{32}$")]
AlertId = Annotated[str, Path(pattern=r"^alert_[0-9a-f]{32}$")]
LastEventId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        pattern=r"^[0-9]{1,18}$",
        description="go on after this event; 0: from the oldest that is kept. Left out: only "
        "what comes from now on",
        examples=["4711"],
    ),
]
Seconds = Annotated[
    float,
    Query(
        ge=0,
        le=MAX_TAIL_S,
        allow_inf_nan=False,
        description="the answer ends after so long, and the reader comes again with "
        "`Last-Event-ID`. 0: what is there, and no more",
    ),
]

Url = Annotated[str, Field(max_length=2048, pattern=URL)]
Interval = Annotated[
    int, Field(ge=100, le=60_000, description="milliseconds between frames that are looked at")
]
Priority = Annotated[int, Field(ge=0, le=9, description="9 is the most urgent")]
PolicyName = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,63}(@[1-9][0-9]{0,8})?$",
        description="`id` or `id@version`",
        examples=["default"],
    ),
]


class StreamBody(BaseModel):
    """A live stream to watch. Credentials in `url` are never shown again."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    url: str = Field(
        max_length=2048,
        pattern=SOURCE_URL,
        description="rtmp, rtsp, srt or udp, or http(s) with HLS, FLV or MPEG-TS; a public "
        "address, or one that the settings allow",
        examples=["rtmp://studio.example.org/live/room-7"],
    )
    policy: PolicyName | None = None
    interval_ms: Interval = DEFAULT_INTERVAL_MS
    hold_s: float = Field(
        default=DEFAULT_HOLD_S,
        ge=0,
        le=3600,
        allow_inf_nan=False,
        description="an alert is closed when its label was not seen for so many seconds",
    )
    priority: Priority = 0
    data_id: str | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        pattern=TEXT,
        description="your own id, echoed in events and callbacks",
    )
    callback_url: Url | None = Field(
        default=None, description="gets alerts, and states that need somebody, as signed POSTs"
    )
    cut_callback_url: Url | None = Field(
        default=None, description="gets a signed POST, once an alert, when the policy blocks"
    )


class StreamPatch(BaseModel):
    """What is to be other than it is; the rest stays. `desired`: `stop` ends it and keeps it,
    `run` starts one that is over anew."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    policy: PolicyName | None = None
    interval_ms: Interval | None = None
    priority: Priority | None = None
    desired: Desired | None = None


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class Clip(_Answer):
    """A film of the stream around an alert: it begins before the frame that opened the alert."""

    url: str = Field(description="a path of this API, for `GET` with the same key")
    media_type: str
    size: int = Field(ge=0, description="bytes")
    begun: datetime


class Alert(_Answer):
    """One alert of one segment of a stream; all times are capture times. `start`: of the
    segment's first frame, `captured`: of the frame that opened the alert, `end`: of the last one
    that shows it, null while it is open. `item_id`: what people decide; its verdict is the
    alert's, and its medium the clip. Both are null until they are made, some seconds after the
    opening, and once the item was deleted. For streams whose codec no clip can hold the item is a
    picture."""

    id: str
    state: AlertState
    label: str = Field(examples=["violence.fight"])
    sublabel: str | None = None
    decision: Decision
    score: Unit
    threshold: Unit | None = None
    policy: str
    start: datetime
    captured: datetime
    end: datetime | None = None
    boxes: list[list[float]] = Field(
        description="[x1, y1, x2, y2, score], fractions of the picture"
    )
    item_id: str | None = None
    clip: Clip | None = None

    @classmethod
    def of(cls, row: AlertRow) -> Self:
        return cls(
            id=row.id,
            state=row.state,
            label=row.label,
            sublabel=row.sublabel,
            decision=row.decision,
            score=round(row.score, 4),
            threshold=row.threshold,
            policy=row.policy,
            start=row.start,
            captured=row.captured,
            end=row.end,
            boxes=[list(box) for box in row.boxes],
            item_id=row.item_id,
            clip=_clip(row),
        )


def _clip(row: AlertRow) -> Clip | None:
    kept = row.clip
    if kept is None:
        return None
    url = f"/v1/streams/{row.stream_id}/alerts/{row.id}/clip.mp4"
    return Clip(url=url, media_type=kept.media_type, size=kept.size, begun=kept.begun)


class Stream(_Answer):
    """A live stream. `url` is without credentials. `watched`: a supervisor has it at this moment;
    what a state says of a stream that nobody watches is old. `scores`: of the newest frame."""

    id: str
    url: str
    state: StreamState
    detail: str | None = Field(
        default=None, description="why it is in this state, where that is known"
    )
    since: datetime = Field(description="when its state began")
    watched: bool
    desired: Desired
    policy: str = Field(examples=["default@2"])
    interval_ms: int
    hold_s: float
    priority: int
    data_id: str | None = None
    frames_seen: int = Field(ge=0)
    frames_dropped: int = Field(ge=0, description="not looked at, for want of time")
    reconnects: int = Field(ge=0)
    last_frame_age_s: float | None = Field(
        default=None,
        ge=0,
        description="seconds since the newest frame was captured; null before the first",
    )
    scores: dict[str, Unit]
    created: datetime

    @classmethod
    def of(cls, row: StreamRow, now: datetime) -> Self:
        return cls(**_stream(row, now))


class StreamDetail(Stream):
    """A live stream with its open alerts, the newest first."""

    alerts: list[Alert]

    @classmethod
    def of_detail(cls, row: StreamRow, alerts: Iterable[AlertRow], now: datetime) -> Self:
        return cls(**_stream(row, now), alerts=[Alert.of(one) for one in alerts])


def _stream(row: StreamRow, now: datetime) -> dict[str, Any]:
    age = None if row.last_frame is None else (now - row.last_frame).total_seconds()
    return {
        "id": row.id,
        "url": row.url,
        "state": row.state,
        "detail": row.detail,
        "since": row.since,
        "watched": row.watched,
        "desired": row.desired,
        "policy": row.policy,
        "interval_ms": row.interval_ms,
        "hold_s": row.hold_s,
        "priority": row.priority,
        "data_id": row.data_id,
        "frames_seen": row.frames_seen,
        "frames_dropped": row.frames_dropped,
        "reconnects": row.reconnects,
        "last_frame_age_s": None if age is None else round(max(0.0, age), 3),
        "scores": dict(row.scores),
        "created": row.created,
    }


class StreamPage(_Answer):
    """Newest first. `next_cursor` is null on the last page."""

    streams: list[Stream]
    next_cursor: str | None = None


class AlertPage(_Answer):
    """The newest alerts of a stream, the newest first."""

    alerts: list[Alert]


class Event(_Answer):
    """What `data` of a Server-Sent Event holds. `type`: `item.queued`, `item.decided`,
    `item.deleted`, `stream.state`, `alert.opened`, `alert.escalated`, `alert.closed`; others may
    come. `data` is small: ids, states and decisions."""

    id: int
    type: str = Field(examples=["alert.opened"])
    created: datetime
    item_id: str | None = None
    stream_id: str | None = None
    data: dict[str, Any]


_ALERT: Final[dict[str, Any]] = {
    "id": ALERT,
    "state": "open",
    "label": "violence.fight",
    "sublabel": None,
    "decision": "review",
    "score": 0.91,
    "threshold": 0.8,
    "policy": "default@2",
    "start": "2026-01-31T12:30:00Z",
    "captured": "2026-01-31T12:30:01Z",
    "end": None,
    "boxes": [],
    "item_id": "item_0198f1c2a7d47b0c8e5f6a7b8c9d0e24",
    "clip": {
        "url": f"/v1/streams/{STREAM}/alerts/{ALERT}/clip.mp4",
        "media_type": "video/mp4",
        "size": 913_408,
        "begun": "2026-01-31T12:29:48Z",
    },
}
_STREAM: Final[dict[str, Any]] = {
    "id": STREAM,
    "url": "rtmp://studio.example.org/live/room-7",
    "state": "live",
    "detail": None,
    "since": STARTED,
    "watched": True,
    "desired": "run",
    "policy": "default@2",
    "interval_ms": 1000,
    "hold_s": 10.0,
    "priority": 0,
    "data_id": "room-7",
    "frames_seen": 1801,
    "frames_dropped": 3,
    "reconnects": 1,
    "last_frame_age_s": 0.42,
    "scores": {"porn.explicit": 0.01, "violence.fight": 0.91},
    "created": STARTED,
}
_BODY: Final = {"url": "rtmp://studio.example.org/live/room-7", "data_id": "room-7"}
_EVENT: Final = {
    "id": "4711",
    "event": "alert.opened",
    "data": '{"id":4711,"type":"alert.opened","created":"2026-01-31T12:30:01.612Z",'
    f'"item_id":null,"stream_id":"{STREAM}","data":{{"alert_id":"{ALERT}",'
    '"label":"violence.fight","score":0.91,"decision":"review"}}',
}


def request(name: str, example: Any) -> dict[str, Any]:
    """The JSON body of a request, for `openapi_extra`."""
    schema = {"$ref": f"#/components/schemas/{name}"}
    content = {"application/json": {"schema": schema, "example": example}}
    return {"requestBody": {"required": True, "content": content}}


NEW: Final = request("StreamBody", _BODY)
PATCH: Final = request("StreamPatch", {"interval_ms": 500})


def stream(description: str, *, located: bool = False) -> dict[str, Any]:
    told = _answer(Stream, Stream(**_STREAM), description)
    if located:
        location = {"schema": {"type": "string"}, "required": True, "description": "the stream"}
        told["headers"] = {"Location": location}
    return told


def detail() -> dict[str, Any]:
    value = StreamDetail(**_STREAM, alerts=[Alert(**_ALERT)])
    return _answer(StreamDetail, value, "The stream")


def page() -> dict[str, Any]:
    return _answer(StreamPage, StreamPage(streams=[Stream(**_STREAM)]), "One page")


def alerts() -> dict[str, Any]:
    return _answer(AlertPage, AlertPage(alerts=[Alert(**_ALERT)]), "The alerts")


def clip(description: str) -> dict[str, Any]:
    binary = {"schema": {"type": "string", "format": "binary"}}
    return {"description": description, "content": {"video/mp4": binary}}


def events() -> dict[str, Any]:
    """The schema is that of one event, as the fields of Server-Sent Events."""
    text = {"type": "string"}
    data = text | {
        "contentMediaType": "application/json",
        "contentSchema": {"$ref": "#/components/schemas/Event"},
    }
    fields = {"id": text, "event": text, "data": data, "retry": {"type": ["integer", "string"]}}
    content = {"schema": {"type": "object", "properties": fields}, "example": _EVENT}
    return {
        "description": "Events, one after the other",
        "content": {"text/event-stream": content},
    }


def _answer(model: type[Any], value: Any, description: str) -> dict[str, Any]:
    example = value.model_dump(mode="json")
    content = {"application/json": {"example": example}}
    return {"model": model, "description": description, "content": content}
