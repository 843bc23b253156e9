"""Pictures and proxies, by signed addresses alone; never the uploaded bytes."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from api import derived
from api.console import links
from api.console.access import Viewer
from api.console.pages import ConsoleRoute
from api.deps import GatewayDep
from api.problems import request_id_of
from api.ranges import SAFE, AskedRange
from api.schemas.params import ItemId

router = APIRouter(route_class=ConsoleRoute)

WAIT_S = 20.0
CACHED = {"Cache-Control": f"private, max-age={links.STEP_S}"}

Token = Annotated[str, Path(max_length=64)]
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
