"""Live streams: what is watched, and how it is."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, TypeVar

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api import bodies
from api.auth import ReadKey, WriteKey
from api.deps import Gateway, GatewayDep, in_share, in_thread
from api.ingest import refuse_when_fetching_is_off
from api.problems import request_id_of
from api.ranges import SAFE, AskedRange, stored
from api.schemas import params
from api.schemas import streams as shapes
from api.schemas.problems import KEYED, problems
from api.schemas.streams import (
    Alert,
    AlertId,
    AlertPage,
    Stream,
    StreamBody,
    StreamDetail,
    StreamId,
    StreamPage,
    StreamPatch,
)
from api.submitting import as_json, pins, policy_named
from api.watching import announced, create
from moderation.errors import NotFoundError
from moderation.store import alerts, streams
from moderation.store.live_records import AlertState, StreamChanges, StreamRow
from moderation.types import StreamState

log = logging.getLogger(__name__)

T = TypeVar("T")

router = APIRouter(prefix="/v1/streams", tags=["streams"])

DEFAULT_LIMIT = 50
State = Annotated[StreamState | None, Query()]


@router.post(
    "",
    summary="Watch a stream",
    status_code=201,
    response_model=None,
    responses={
        201: shapes.stream("It is watched as soon as a supervisor has room", located=True),
        **problems(*KEYED, 408, 409, 413, 415),
    },
    openapi_extra=shapes.NEW,
)
async def post_stream(
    request: Request,
    gateway: GatewayDep,
    key: WriteKey,
    idempotency_key: params.IdempotencyKey = None,
) -> Response:
    """From now on, until it is deleted, ends or fails. How it goes: `GET` it, or read its events.
    Needs a gateway that may read from URLs."""
    body = await bodies.only_json(request, StreamBody)
    refuse_when_fetching_is_off(gateway)
    policy = await policy_named(gateway, key.tenant, body.policy)
    # Hosts are resolved, which may be slow.
    call = partial(create, gateway, key.tenant, body, policy, idempotency_key)
    row = await in_share(gateway.threads.fetches, call)
    return _respond(row, status=201, headers={"Location": f"/v1/streams/{row.id}"})


@router.get(
    "",
    summary="List streams",
    response_model=None,
    responses={200: shapes.page(), **problems(*KEYED)},
)
async def list_streams(
    gateway: GatewayDep,
    key: ReadKey,
    state: State = None,
    data_id: params.DataId = None,
    limit: params.Limit = DEFAULT_LIMIT,
    cursor: params.Cursor = None,
) -> Response:
    """Newest first, in a stable order."""
    page = await in_thread(
        streams.list_streams,
        gateway.db,
        key.tenant,
        state=state,
        data_id=data_id,
        limit=limit,
        cursor=cursor,
    )
    now = datetime.now(UTC)
    told = StreamPage(
        streams=[Stream.of(row, now) for row in page.streams], next_cursor=page.next_cursor
    )
    return as_json(told.model_dump_json())


@router.get(
    "/{stream_id}",
    summary="One stream",
    response_model=None,
    responses={200: shapes.detail(), **problems(*KEYED, 404)},
)
async def get_stream(gateway: GatewayDep, key: ReadKey, stream_id: StreamId) -> Response:
    """Its state, what was seen of it, the scores of its newest frame, and its open alerts."""
    return await in_thread(_detail, gateway, key.tenant, stream_id)


@router.get(
    "/{stream_id}/alerts",
    summary="Alerts of a stream",
    response_model=None,
    responses={200: shapes.alerts(), **problems(*KEYED, 404)},
)
async def list_alerts(
    gateway: GatewayDep,
    key: ReadKey,
    stream_id: StreamId,
    state: AlertState | None = None,
    limit: params.Limit = DEFAULT_LIMIT,
) -> Response:
    """The newest ones, open and closed."""
    return await in_thread(_alerts, gateway, key.tenant, stream_id, state, limit)


@router.get(
    "/{stream_id}/alerts/{alert_id}/clip.mp4",
    summary="The film around an alert",
    response_model=None,
    responses={
        200: shapes.clip("The bytes"),
        206: shapes.clip("The asked range of them"),
        **problems(*KEYED, 404, 416),
    },
)
async def get_clip(
    request: Request,
    gateway: GatewayDep,
    key: ReadKey,
    stream_id: StreamId,
    alert_id: AlertId,
    asked: AskedRange = None,
) -> Response:
    """As the stream sent it, from before the frame that opened the alert to some seconds after.
    404 until it is made."""
    row = await in_thread(alerts.get, gateway.db, key.tenant, stream_id, alert_id)
    if row.clip is None:
        raise NotFoundError(f"There is no film of {alert_id}, or not yet.")
    return await stored(
        gateway,
        row.clip.key,
        row.clip.size,
        asked,
        media_type=row.clip.media_type,
        headers=SAFE,
        request_id=request_id_of(request.scope),
    )


@router.patch(
    "/{stream_id}",
    summary="Change a stream",
    response_model=None,
    responses={200: shapes.stream("As it is now"), **problems(*KEYED, 404, 408, 413, 415)},
    openapi_extra=shapes.PATCH,
)
async def patch_stream(
    request: Request, gateway: GatewayDep, key: WriteKey, stream_id: StreamId
) -> Response:
    """Another policy, interval or priority, within seconds and without a break. It can be stopped,
    and started again."""
    body = await bodies.only_json(request, StreamPatch)
    changes = StreamChanges(
        policy=None
        if body.policy is None
        else await policy_named(gateway, key.tenant, body.policy),
        pinned=pins(gateway, body.policy),
        interval_ms=body.interval_ms,
        priority=body.priority,
        desired=body.desired,
    )
    call = partial(streams.change, gateway.db, key.tenant, stream_id, changes)
    row = await in_thread(announced, gateway, stream_id, call)
    return _respond(row)


@router.delete(
    "/{stream_id}",
    summary="Watch a stream no more",
    status_code=204,
    response_model=None,
    responses={204: {"description": "It is gone"}, **problems(*KEYED, 404)},
)
async def delete_stream(gateway: GatewayDep, key: WriteKey, stream_id: StreamId) -> Response:
    """Its open alerts are closed, and its credentials are forgotten. The audit keeps who did it."""
    call = partial(streams.remove, gateway.db, key.tenant, stream_id, actor=key.id)
    await in_thread(announced, gateway, stream_id, call)
    return Response(status_code=204)


def _detail(gateway: Gateway, tenant: str, stream_id: str) -> Response:
    row = streams.get(gateway.db, tenant, stream_id)
    open_ones = alerts.of_stream(gateway.db, tenant, stream_id, state=AlertState.OPEN)
    told = StreamDetail.of_detail(row, open_ones, datetime.now(UTC))
    return as_json(told.model_dump_json())


def _alerts(
    gateway: Gateway, tenant: str, stream_id: str, state: AlertState | None, limit: int
) -> Response:
    streams.get(gateway.db, tenant, stream_id)
    rows = alerts.of_stream(gateway.db, tenant, stream_id, state=state, limit=limit)
    return as_json(AlertPage(alerts=[Alert.of(row) for row in rows]).model_dump_json())


def _respond(
    row: StreamRow, *, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    body = Stream.of(row, datetime.now(UTC)).model_dump_json()
    return as_json(body, status=status, headers=headers)
