"""Signing in and out, and the console's own files."""

from __future__ import annotations

import hmac
import logging
from functools import partial
from typing import Annotated, Final

from fastapi import APIRouter, Path, Request
from starlette.responses import RedirectResponse, Response

from api.console import access, pages
from api.console.access import FormDep, Viewer
from api.console.pages import STATIC, ConsoleRoute
from api.console.sign_on import attempt_of, give_attempt, take_attempt, way_back
from api.deps import Gateway, GatewayDep, SignOnLike, in_share, in_thread
from moderation.errors import AccessError, ConflictError, NotFoundError
from moderation.oidc import SignOnError
from moderation.store import accounts, reviews, sessions
from moderation.store.review_records import AccountRow

log = logging.getLogger(__name__)

router = APIRouter(route_class=ConsoleRoute)

LONGEST_PASSWORD = 256
NOT_BEGUN: Final = "This sign-in was not begun here, or took too long. Try again."
NOT_LET_IN: Final = "The identity provider did not let you in."


@router.get("")
@router.get("/")
async def start() -> Response:
    return pages.see("/queue")


@router.get("/sign-in")
async def sign_in_page(request: Request, gateway: GatewayDep, then: str = "") -> Response:
    return _sign_in_page(request, gateway, then=_ours(then))


@router.post("/sign-in")
async def sign_in(request: Request, gateway: GatewayDep, form: FormDep) -> Response:
    access.from_our_own_page(request)
    name, then = form.get("name", 64).lower(), _ours(form.get("then"))
    password = (form.all("password") or [""])[0][:LONGEST_PASSWORD]
    try:
        call = partial(accounts.sign_in, gateway.db, name, password)
        who = await in_share(gateway.threads.passwords, call)
    except AccessError as error:
        return _sign_in_page(request, gateway, then=then, failed=error.message, name=name)
    return await _let_in(request, gateway, who, then)


@router.get("/sign-in/provider")
async def to_provider(request: Request, gateway: GatewayDep, then: str = "") -> Response:
    """Sends the browser to the identity provider."""
    sign_on = _sign_on(gateway)
    answer = RedirectResponse("", 303, headers={"Cache-Control": "no-store"})
    attempt = give_attempt(request, answer, _ours(then))
    call = partial(sign_on.url, attempt, way_back(request))
    try:
        answer.headers["location"] = await in_share(gateway.threads.providers, call)
    except SignOnError as error:
        return _sign_in_page(request, gateway, then=_ours(then), failed=error.message)
    return answer


@router.get("/sign-in/back")
async def from_provider(
    request: Request, gateway: GatewayDep, code: str = "", state: str = "", error: str = ""
) -> Response:
    """The browser comes back, with a code or the reason why there is none. The attempt is over,
    whatever comes of it."""
    answer = await _came_back(request, gateway, code, state, error)
    take_attempt(answer)
    return answer


async def _came_back(
    request: Request, gateway: Gateway, code: str, state: str, error: str
) -> Response:
    sign_on, begun = _sign_on(gateway), attempt_of(request)
    if begun is None or not hmac.compare_digest(state.encode(), begun[0].state.encode()):
        return _sign_in_page(request, gateway, failed=NOT_BEGUN)
    attempt, then = begun[0], _ours(access.PATH + begun[1])
    if error or not code:
        log.info("the identity provider let somebody not in: %.100r", error)
        return _sign_in_page(request, gateway, then=then, failed=NOT_LET_IN)

    def arrive() -> AccountRow:
        person = sign_on.person(attempt, code, way_back(request))
        return accounts.arrive(
            gateway.db,
            tenant=gateway.settings.oidc_tenant,
            subject=person.subject,
            name=person.name,
            role=person.role,
        )

    try:
        who = await in_share(gateway.threads.providers, arrive)
    except (AccessError, ConflictError) as refused:
        return _sign_in_page(request, gateway, then=then, failed=refused.message)
    return await _let_in(request, gateway, who, then)


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


async def _let_in(request: Request, gateway: Gateway, who: AccountRow, then: str) -> Response:
    secret, _ = await in_thread(sessions.begin, gateway.db, who)
    answer = pages.see(then or "/queue")
    access.give_cookie(request, answer, secret, int(sessions.LIFE.total_seconds()))
    return answer


def _sign_in_page(
    request: Request, gateway: Gateway, *, then: str = "", failed: str | None = None, name: str = ""
) -> Response:
    return pages.render(
        request,
        "sign_in.html",
        None,
        status=200 if failed is None else 401,
        then=then,
        failed=failed,
        name=name,
        provider=None if gateway.sign_on is None else gateway.sign_on.name,
    )


def _sign_on(gateway: Gateway) -> SignOnLike:
    """Raises NotFoundError where passwords alone are used."""
    if gateway.sign_on is None:
        raise NotFoundError("There is nothing at this address.")
    return gateway.sign_on


def _ours(then: str) -> str:
    """Where to go on, as a path below the console; "" for anything else."""
    path = then.removeprefix(access.PATH)
    fine = then.startswith(f"{access.PATH}/") and "\\" not in path and not path.startswith("//")
    return path if fine and path.isprintable() else ""
