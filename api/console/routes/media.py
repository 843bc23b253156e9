"""Pictures and proxies, by signed addresses alone; never the uploaded bytes."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from api import derived
from api.console import links
from api.console.access import Viewer
from api.console.pages import ConsoleRoute
from api.deps import GatewayDep, in_thread
from api.problems import request_id_of
from api.ranges import SAFE, AskedRange
from api.schemas.params import ItemId
from api.schemas.streams import StreamId
from moderation.errors import NotFoundError
from moderation.live.newest import KEPT_S
from moderation.store import streams

router = APIRouter(route_class=ConsoleRoute)

WAIT_S = 20.0
CACHED = {"Cache-Control": f"private, max-age={links.STEP_S}"}

CACHED_SHORTLY = {"Cache-Control": f"private, max-age={KEPT_S}"}

Token = Annotated[str, Path(max_length=64)]
Captured = Annotated[int, Path(ge=0, le=2**53)]
Name = Annotated[str, Path(pattern=derived.NAME)]


@router.get("/media/{token}/{item_id}/{name}")
async def media(
    request: Request,
    gateway: GatewayDep,
    who: Viewer,
    token: Token,
    item_id: ItemId,
    name: Name,
    asked: AskedRange = None,
) -> Response:
    links.check(who, token, item_id, name)
    return await derived.give(
        gateway,
        who.account.tenant,
        item_id,
        name,
        wait_s=min(WAIT_S, gateway.settings.wait_max),
        asked=asked,
        headers=SAFE | CACHED,
        request_id=request_id_of(request.scope),
    )


@router.get("/media/{token}/{stream_id}/newest/{captured_ms}")
async def newest(
    gateway: GatewayDep, who: Viewer, token: Token, stream_id: StreamId, captured_ms: Captured
) -> Response:
    """A live stream's newest frame, veiled: there is no other one. A newer one, where it has come
    since the page was made."""
    links.check_newest(who, token, stream_id, captured_ms)
    # Whoever has a session can sign with it: the stream is the tenant's own, or there is none.
    await in_thread(streams.get, gateway.db, who.account.tenant, stream_id)
    found = await in_thread(gateway.newest.read, stream_id)
    if found is None:
        raise NotFoundError("There is no frame of this stream any more.")
    return Response(found.picture, headers=SAFE | CACHED_SHORTLY, media_type="image/webp")
