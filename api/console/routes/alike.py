"""Deciding an item together with what waits and looks like it. Seeing all of them comes first."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.console import links, pages, views
from api.console.access import FormDep, Lead, Reviewer, Visitor
from api.console.choices import choice_of, labels_for
from api.console.pages import ConsoleRoute
from api.deps import Gateway, GatewayDep, in_thread
from api.reviewing import announced
from api.schemas.params import ItemId
from moderation.errors import ConflictError, InputError, NotFoundError
from moderation.store import alike, decisions, items
from moderation.store.records import ItemRow
from moderation.store.review_records import Choice

router = APIRouter(route_class=ConsoleRoute)

MAX_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class Copy:
    """An item that looks like another. likeness: 0..1."""

    item_id: str
    likeness: float
    still: str
    source: str | None


@router.get("/items/{item_id}/alike")
async def alike_page(
    request: Request, gateway: GatewayDep, who: Reviewer, item_id: ItemId
) -> Response:
    item, copies = await in_thread(_copies, gateway, who, item_id)
    still = links.media(who, item_id, f"{views.worst_frame(item)}-blur.webp")
    return pages.render(
        request,
        "alike.html",
        who,
        item=item,
        still=still,
        copies=copies,
        labels=labels_for(item.verdict),
        most=MAX_AT_ONCE,
    )


@router.post("/items/{item_id}/alike")
async def decide_alike(
    request: Request, gateway: GatewayDep, who: Lead, item_id: ItemId, form: FormDep
) -> Response:
    """Decides those that were chosen, each as if it had been decided alone. Those that somebody
    else has, or that are gone, are left and told."""
    chosen = list(dict.fromkeys([item_id, *form.all("chosen")]))
    if len(chosen) > MAX_AT_ONCE + 1:
        raise InputError(f"At most {MAX_AT_ONCE} items are decided at once.")
    if form.get("sure") != "1":
        raise InputError("Say that you have seen all of them.")
    choice = choice_of(form)
    done, left = await in_thread(_decide, gateway, who, chosen, choice)
    return pages.render(request, "alike_done.html", who, done=done, left=left, choice=choice)


def _copies(gateway: Gateway, who: Visitor, item_id: str) -> tuple[ItemRow, list[Copy]]:
    db, tenant = gateway.db, who.account.tenant
    item = items.get_item(db, tenant, item_id)
    found = alike.waiting_like(db, tenant, item_id, limit=MAX_AT_ONCE)
    known = items.by_ids(db, tenant, [one.item_id for one in found])
    return item, [
        Copy(
            one.item_id,
            one.likeness,
            links.media(who, one.item_id, f"{views.worst_frame(other)}-blur.webp"),
            other.source,
        )
        for one in found
        if (other := known.get(one.item_id)) is not None
    ]


def _decide(
    gateway: Gateway, who: Visitor, chosen: list[str], choice: Choice
) -> tuple[list[str], dict[str, str]]:
    """Ids of those that were decided, and why each of the others was not."""
    done: list[str] = []
    left: dict[str, str] = {}
    for item_id in chosen:
        try:
            decisions.decide(gateway.db, who.account.tenant, who.account.id, item_id, choice)
        except (ConflictError, NotFoundError) as error:
            left[item_id] = error.message
        else:
            done.append(item_id)
            announced(gateway, item_id)
    return done, left
