"""The wall of live streams: how each is, its latest alerts, start and stop."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.responses import Response

from api.console import links, pages, views
from api.console.access import FormDep, Lead, Viewer, Visitor
from api.console.pages import ConsoleRoute
from api.deps import Gateway, GatewayDep, in_share, in_thread
from api.ingest import refuse_when_fetching_is_off
from api.schemas.streams import StreamBody, StreamId
from api.submitting import policy_named
from api.watching import announced, create
from moderation.errors import BrokerError, InputError
from moderation.store import alerts, items, streams
from moderation.store.live_records import AlertRow, Desired, StreamChanges, StreamRow
from moderation.types import StreamState

log = logging.getLogger(__name__)

router = APIRouter(route_class=ConsoleRoute)

PAGE = 60
ALERTS = 3


@dataclass(frozen=True, slots=True)
class Tile:
    """A stream on the wall. still: its newest frame while it is live, else of its newest alert that
    has a picture; veiled."""

    stream: StreamRow
    alerts: list[AlertRow]
    still: str | None


@router.get("/streams")
async def wall(
    request: Request, gateway: GatewayDep, who: Viewer, cursor: str | None = None
) -> Response:
    tiles, following = await in_thread(_tiles, gateway, who, cursor)
    policies = await in_thread(gateway.policies.of, gateway.db, who.account.tenant)
    return pages.render(
        request,
        "streams.html",
        who,
        tiles=tiles,
        following=following,
        cursor=cursor,
        policies=sorted(policies),
        may_fetch=gateway.settings.fetch_enabled,
    )


@router.post("/streams")
async def start(request: Request, gateway: GatewayDep, who: Lead, form: FormDep) -> Response:
    """Watches another stream."""
    refuse_when_fetching_is_off(gateway)
    try:
        body = StreamBody(
            url=form.get("url", 2048),
            policy=form.get("policy", 128) or None,
            data_id=form.get("data_id", 256) or None,
        )
    except ValidationError as error:
        names = ", ".join(sorted({str(one["loc"][0]) for one in error.errors()}))
        raise InputError(f"This stream cannot be watched: {names}.") from error
    policy = await policy_named(gateway, who.account.tenant, body.policy)
    call = partial(create, gateway, who.account.tenant, body, policy, None)
    await in_share(gateway.threads.fetches, call)
    return pages.see("/streams")


@router.post("/streams/{stream_id}")
async def change(gateway: GatewayDep, who: Lead, stream_id: StreamId, form: FormDep) -> Response:
    """Starts it anew, or stops it."""
    try:
        changes = StreamChanges(desired=Desired(form.get("desired", 8)))
    except ValueError as error:
        raise InputError("A stream is to run, or to stop.") from error
    call = partial(streams.change, gateway.db, who.account.tenant, stream_id, changes)
    await in_thread(announced, gateway, stream_id, call)
    return pages.see("/streams")


def _tiles(gateway: Gateway, who: Visitor, cursor: str | None) -> tuple[list[Tile], str | None]:
    db, tenant = gateway.db, who.account.tenant
    page = streams.list_streams(db, tenant, limit=PAGE, cursor=cursor)
    found = {row.id: alerts.of_stream(db, tenant, row.id, limit=ALERTS) for row in page.streams}
    shown = [one.item_id for rows in found.values() for one in rows if one.item_id is not None]
    known = items.by_ids(db, tenant, shown)
    stills = {
        key: links.media(who, key, f"{views.worst_frame(item)}-blur.webp")
        for key, item in known.items()
    }
    newest = _newest(gateway, who, page.streams)
    tiles = [_tile(row, found[row.id], stills, newest.get(row.id)) for row in page.streams]
    return tiles, page.next_cursor


def _newest(gateway: Gateway, who: Visitor, rows: Sequence[StreamRow]) -> dict[str, str]:
    """Addresses of the newest frames of those that are live."""
    live = [row.id for row in rows if row.state is StreamState.LIVE]
    try:
        captured = gateway.newest.captured(live)
    except BrokerError as error:
        log.info("the wall shows alerts alone: %s", error)
        return {}
    return {key: links.newest(who, key, captured_ms) for key, captured_ms in captured.items()}


def _tile(
    row: StreamRow, latest: list[AlertRow], stills: Mapping[str, str], newest: str | None
) -> Tile:
    pictures = (newest, *(stills.get(one.item_id or "") for one in latest))
    return Tile(row, latest, next((one for one in pictures if one is not None), None))
