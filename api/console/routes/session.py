"""Signing in and out, and the console's own files."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from api.console import access, pages
from api.console.access import FormDep, Viewer
from api.console.pages import STATIC, ConsoleRoute
from api.deps import GatewayDep, in_share, in_thread
from moderation.errors import AccessError, NotFoundError
from moderation.store import accounts, reviews, sessions

router = APIRouter(route_class=ConsoleRoute)

LONGEST_PASSWORD = 256


@router.get("")
@router.get("/")
async def start() -> Response:
    return pages.see("/queue")


@router.get("/sign-in")
async def sign_in_page(request: Request, then: str = "") -> Response:
    return pages.render(request, "sign_in.html", None, then=_ours(then), failed=None, name="")


@router.post("/sign-in")
async def sign_in(request: Request, gateway: GatewayDep, form: FormDep) -> Response:
    access.from_our_own_page(request)
    name, then = form.get("name", 64).lower(), _ours(form.get("then"))
    password = (form.all("password") or [""])[0][:LONGEST_PASSWORD]
    try:
        call = partial(accounts.sign_in, gateway.db, name, password)
        who = await in_share(gateway.threads.passwords, call)
    except AccessError as error:
        return pages.render(
            request, "sign_in.html", None, status=401, then=then, failed=error.message, name=name
        )
    secret, _ = await in_thread(sessions.begin, gateway.db, who)
    answer = pages.see(then or "/queue")
    access.give_cookie(request, answer, secret, int(sessions.LIFE.total_seconds()))
    return answer


@router.post("/sign-out")
async def sign_out(gateway: GatewayDep, who: Viewer) -> Response:
    """What was claimed is free for others at once."""
    await in_thread(reviews.release_all, gateway.db, who.account.tenant, who.account.id)
    await in_thread(sessions.end, gateway.db, who.key)
    answer = pages.see("/sign-in")
    access.take_cookie(answer)
    return answer


@router.get("/static/{name}")
async def static(name: Annotated[str, Path(max_length=64)], v: str = "") -> Response:
    kind = STATIC.get(name)
    if kind is None:
        raise NotFoundError("There is no such file.")
    # Another gateway's page, of another version, may ask for a content that is not ours.
    ours = v == pages.version_of(name)
    keep = "public, max-age=31536000, immutable" if ours else "no-store"
    headers = pages.SECURITY | {"Cache-Control": keep}
    return Response(pages.static_file(name), headers=headers, media_type=kind)


def _ours(then: str) -> str:
    """Where to go on, as a path below the console; "" for anything else."""
    path = then.removeprefix(access.PATH)
    fine = then.startswith(f"{access.PATH}/") and "\\" not in path and not path.startswith("//")
    return path if fine and path.isprintable() else ""
