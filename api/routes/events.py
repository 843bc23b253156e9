"""Events as they come, of one stream or of everything."""

from __future__ import annotations

from fastapi import APIRouter

from api.auth import ReadKey
from api.deps import Gateway, GatewayDep, in_thread
from api.schemas import streams as shapes
from api.schemas.problems import KEYED, problems
from api.schemas.streams import LastEventId, Seconds, StreamId
from api.sse import EventStream, tail
from moderation.store import events, streams

router = APIRouter(prefix="/v1", tags=["events"])

DEFAULT_S = 600.0


@router.get(
    "/events",
    summary="All events",
    status_code=200,
    response_class=EventStream,
    responses={200: shapes.events(), **problems(*KEYED)},
)
async def all_events(
    gateway: GatewayDep,
    key: ReadKey,
    last_event_id: LastEventId = None,
    seconds: Seconds = DEFAULT_S,
) -> EventStream:
    """Server-Sent Events of items and streams, in order, none twice. A reader that was cut off goes
    on where it was, by `Last-Event-ID`, as long as events are kept (30 days unless it is set
    otherwise)."""
    last_id = await in_thread(_begin, gateway, key.tenant, last_event_id)
    return EventStream(gateway, key.tenant, tail(gateway, key, None, last_id, seconds), seconds)


@router.get(
    "/streams/{stream_id}/events",
    summary="Events of a stream",
    status_code=200,
    response_class=EventStream,
    responses={200: shapes.events(), **problems(*KEYED, 404)},
)
async def stream_events(
    gateway: GatewayDep,
    key: ReadKey,
    stream_id: StreamId,
    last_event_id: LastEventId = None,
    seconds: Seconds = DEFAULT_S,
) -> EventStream:
    """The same of one stream: `stream.state` at every change of its state, `alert.opened`,
    `alert.escalated` and `alert.closed`."""
    await in_thread(streams.get, gateway.db, key.tenant, stream_id)
    last_id = await in_thread(_begin, gateway, key.tenant, last_event_id)
    return EventStream(
        gateway, key.tenant, tail(gateway, key, stream_id, last_id, seconds), seconds
    )


def _begin(gateway: Gateway, tenant: str, last_event_id: str | None) -> int:
    return events.newest(gateway.db, tenant) if last_event_id is None else int(last_event_id)
