"""The audit: who did, or saw, what."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.console import pages
from api.console.access import Lead
from api.console.names import names_of
from api.console.pages import ConsoleRoute
from api.deps import GatewayDep, in_thread
from api.schemas.params import TEXT
from moderation.store import audits

router = APIRouter(route_class=ConsoleRoute)

PAGE = 100
Words = Annotated[str, Query(max_length=128, pattern=TEXT.replace("+", "*"))]


@router.get("/audit")
async def audit_page(
    request: Request,
    gateway: GatewayDep,
    who: Lead,
    actor: Words = "",
    action: Words = "",
    target: Words = "",
    before: Annotated[int | None, Query(ge=0, le=2**62)] = None,
) -> Response:
    tenant = who.account.tenant
    names = await in_thread(names_of, gateway.db, tenant)
    ids = {name: key for key, name in names.items()}
    rows = await in_thread(
        audits.page,
        gateway.db,
        tenant,
        actor=ids.get(actor, actor) or None,
        action=action or None,
        target=target or None,
        before=before,
        limit=PAGE + 1,
    )
    return pages.render(
        request,
        "audit.html",
        who,
        rows=rows[:PAGE],
        names=names,
        actor=actor,
        action=action,
        target=target,
        before=rows[PAGE - 1].id if len(rows) > PAGE else None,
    )
