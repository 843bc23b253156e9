"""What no other route has: addresses below the console at which there is nothing. The last one."""

from __future__ import annotations

from fastapi import APIRouter

from api.console.access import Viewer
from api.console.pages import ConsoleRoute
from moderation.errors import NotFoundError

router = APIRouter(route_class=ConsoleRoute)


# POST too: a page from before an upgrade may have a form for what is not there any more.
@router.api_route("/{rest:path}", methods=["GET", "POST"])
async def nothing(who: Viewer, rest: str) -> None:
    """A page that says so, to who is signed in."""
    raise NotFoundError("There is nothing at this address.")
