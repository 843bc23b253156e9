"""The review console: pages for people, under /console."""

from __future__ import annotations

from fastapi import FastAPI

from api.console.access import PATH
from api.console.routes import account, audit, item, media, queue, session, streams, users


def install(app: FastAPI) -> None:
    """Adds the pages; they are no part of the API's document."""
    for routes in (session, queue, item, media, streams, account, users, audit):
        app.include_router(routes.router, prefix=PATH, include_in_schema=False)
