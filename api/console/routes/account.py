"""One's own account: how things are shown, what one has seen, the password."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.responses import Response

from api.console import access, pages
from api.console.access import FormDep, Viewer, Visitor
from api.console.pages import ConsoleRoute
from api.console.preferences import Preferences
from api.deps import Gateway, GatewayDep, in_share, in_thread
from moderation.errors import AccessError, InputError
from moderation.store import accounts, audits, decisions, sessions

router = APIRouter(route_class=ConsoleRoute)

LONGEST_PASSWORD = 256


@router.get("/account")
async def account_page(request: Request, gateway: GatewayDep, who: Viewer) -> Response:
    exposed, made = await in_thread(_counts, gateway, who)
    return pages.render(
        request,
        "account.html",
        who,
        exposed=exposed,
        made=made,
        saved="saved" in request.query_params,
    )


@router.post("/account/preferences")
async def prefer(gateway: GatewayDep, who: Viewer, form: FormDep) -> Response:
    kept = Preferences.of(who.account.preferences)
    given = {
        "veil": bool(form.get("veil")),
        "grey": bool(form.get("grey")),
        "softness": form.get("softness"),
        "size": form.get("size"),
        "break_min": form.get("break_min"),
        "language": form.get("language"),
        "theme": form.get("theme"),
        "views": kept.views,
    }
    try:
        chosen = Preferences.model_validate(given)
    except ValidationError as error:
        names = ", ".join(sorted({str(one["loc"][0]) for one in error.errors()}))
        raise InputError(f"These cannot be kept: {names}.") from error
    await in_thread(accounts.prefer, gateway.db, who.account.id, chosen.model_dump(mode="json"))
    return pages.see("/account", saved="1")


@router.post("/account/password")
async def change_password(
    request: Request, gateway: GatewayDep, who: Viewer, form: FormDep
) -> Response:
    """Asks for the one that holds; signs every other browser out."""
    old, new = ((form.all(name) or [""])[0] for name in ("old", "new"))
    if max(len(old), len(new)) > LONGEST_PASSWORD:
        raise InputError(f"A password has at most {LONGEST_PASSWORD} characters.")
    share, account = gateway.threads.passwords, who.account
    try:
        await in_share(share, partial(accounts.sign_in, gateway.db, account.name, old))
    except AccessError as error:
        raise InputError("The old password is not right.") from error
    change = partial(accounts.change, password=new, actor=account.id)
    changed = await in_share(share, partial(change, gateway.db, account.id))
    secret, _ = await in_thread(sessions.begin, gateway.db, changed)
    answer = pages.see("/account", saved="1")
    access.give_cookie(request, answer, secret, int(sessions.LIFE.total_seconds()))
    return answer


def _counts(gateway: Gateway, who: Visitor) -> tuple[dict[str, int], dict[str, int]]:
    """Items seen without the veil, and decisions made: today, and in the last 7 and 30 days."""
    now = datetime.now(UTC)
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    account = who.account
    exposed, made = {}, {}
    for name, days in (("today", 0), ("7 days", 6), ("30 days", 29)):
        since = day - timedelta(days=days)
        exposed[name] = audits.exposure(gateway.db, account.tenant, account.id, since=since)
        made[name] = decisions.count(gateway.db, account.tenant, account.id, since=since)
    return exposed, made
