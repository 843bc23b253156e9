"""Accounts, kept by admins."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from api.console import pages
from api.console.access import Admin, FormDep, Visitor
from api.console.pages import ConsoleRoute
from api.deps import Gateway, GatewayDep, in_share, in_thread
from moderation import passwords
from moderation.errors import InputError, NotFoundError
from moderation.store import accounts
from moderation.store.review_records import AccountRow, Role

router = APIRouter(route_class=ConsoleRoute)

AccountId = Annotated[str, Path(pattern=r"^user_[0-9a-f]{32}$")]


@router.get("/users")
async def users_page(request: Request, gateway: GatewayDep, who: Admin) -> Response:
    return await _page(request, gateway, who)


@router.post("/users")
async def create_user(request: Request, gateway: GatewayDep, who: Admin, form: FormDep) -> Response:
    """With a password of our making, shown once."""
    made = passwords.made()
    call = partial(
        accounts.create,
        gateway.db,
        tenant=who.account.tenant,
        name=form.get("name", 64),
        role=_role(form.get("role", 16)),
        password=made,
        actor=who.account.id,
    )
    row = await in_share(gateway.threads.passwords, call)
    return await _page(request, gateway, who, made=(row.name, made))


@router.post("/users/{account_id}")
async def change_user(
    request: Request, gateway: GatewayDep, who: Admin, account_id: AccountId, form: FormDep
) -> Response:
    """The role; or `act`: disable, enable, or a new password."""
    row = await in_thread(_of_tenant, gateway, who, account_id)
    act, made = form.get("act", 16), None
    change = partial(accounts.change, gateway.db, row.id, actor=who.account.id)
    if act == "password":
        made = passwords.made()
        await in_share(gateway.threads.passwords, partial(change, password=made))
    elif act in ("disable", "enable"):
        await in_thread(partial(change, disabled=act == "disable"))
    else:
        await in_thread(partial(change, role=_role(form.get("role", 16))))
    if made is None:
        return pages.see("/users")
    return await _page(request, gateway, who, made=(row.name, made))


async def _page(
    request: Request, gateway: Gateway, who: Visitor, made: tuple[str, str] | None = None
) -> Response:
    rows = await in_thread(accounts.listed, gateway.db, who.account.tenant)
    return pages.render(request, "users.html", who, rows=rows, roles=list(Role), made=made)


def _of_tenant(gateway: Gateway, who: Visitor, account_id: str) -> AccountRow:
    for row in accounts.listed(gateway.db, who.account.tenant):
        if row.id == account_id:
            return row
    raise NotFoundError("There is no such account.")


def _role(name: str) -> Role:
    try:
        return Role(name)
    except ValueError as error:
        raise InputError("There is no such role.") from error
