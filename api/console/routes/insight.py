"""How the work goes: volumes, automation, agreement with the models, time per decision."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.console import pages
from api.console.access import Lead
from api.console.names import names_of
from api.console.pages import ConsoleRoute
from api.deps import GatewayDep, in_thread
from moderation.store import insight, reviews

router = APIRouter(route_class=ConsoleRoute)

Days = Annotated[int, Query(ge=1, le=90)]


@router.get("/insight")
async def insight_page(
    request: Request, gateway: GatewayDep, who: Lead, days: Days = 30
) -> Response:
    tenant = who.account.tenant
    found = await in_thread(insight.insight, gateway.db, tenant, days=days)
    return pages.render(
        request,
        "insight.html",
        who,
        found=found,
        most=max((day.total for day in found.days), default=0),
        days=days,
        counts=await in_thread(reviews.counts, gateway.db, tenant, who.account.id),
        names=await in_thread(names_of, gateway.db, tenant),
    )
