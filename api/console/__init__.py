"""The review console: pages for people, under /console."""

from __future__ import annotations

from typing import Final

from fastapi import FastAPI

from api.console.access import PATH
from api.console.routes import (
    account,
    alike,
    audit,
    insight,
    item,
    lists,
    media,
    policies,
    queue,
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
)
ROUTERS: Final = tuple(module.router for module in MODULES)


def install(app: FastAPI) -> None:
    """Adds the pages; they are no part of the API's document."""
    for router in ROUTERS:
        app.include_router(router, prefix=PATH, include_in_schema=False)
