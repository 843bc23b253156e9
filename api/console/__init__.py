"""The review console: pages for people, under /console."""

from __future__ import annotations

from typing import Final

from fastapi import FastAPI
from starlette.responses import RedirectResponse, Response

from api.console.access import PATH
from api.console.routes import (
    account,
    alike,
    audit,
    elsewhere,
    export,
    insight,
    item,
    lists,
    media,
    policies,
    queue,
    retention,
    session,
    streams,
    users,
)

MODULES: Final = (
    session,
    queue,
    item,
    alike,
    lists,
    policies,
    media,
    streams,
    account,
    users,
    audit,
    insight,
    export,
    retention,
)
# It answers whatever none of the others did.
ROUTERS: Final = (*(module.router for module in MODULES), elsewhere.router)


def install(app: FastAPI) -> None:
    """Adds the pages; they are no part of the API's document."""
    app.add_api_route("/", front, include_in_schema=False)
    for router in ROUTERS:
        app.include_router(router, prefix=PATH, include_in_schema=False)


async def front() -> Response:
    """Who opens the gateway in a browser means the console."""
    return RedirectResponse(PATH, 303)
