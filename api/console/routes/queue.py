"""The queue: a grid of what waits, filters, saved views, and the way into one at a time."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.console import pages
from api.console.access import FormDep, Reviewer, Viewer, Visitor
from api.console.filters import QueueFilter
from api.console.names import names_of
from api.console.pages import ConsoleRoute
from api.console.preferences import Preferences
from api.console.views import Card, card
from api.deps import Gateway, GatewayDep, in_thread
from api.schemas.reviews import DECISION_ID
from moderation.errors import InputError
from moderation.labels import LABELS
from moderation.store import accounts, items, reviews
from moderation.store.policies import policy_refs
from moderation.store.reviews import QueueCounts, QueuePage

router = APIRouter(route_class=ConsoleRoute)

PAGE = 24
MAX_VIEWS = 20


@router.get("/queue")
async def queue(
    request: Request, gateway: GatewayDep, who: Viewer, after: str | None = None
) -> Response:
    flt = QueueFilter.of(dict(request.query_params))
    page, cards, counts = await in_thread(_read, gateway, who, flt, after)
    policies = await in_thread(policy_refs, gateway.db, who.account.tenant)
    return pages.render(
        request,
        "queue.html",
        who,
        flt=flt,
        cards=cards,
        counts=counts,
        next_after=page.next_after,
        labels=sorted({*(one.name for one in LABELS), *(name for name in counts.by_label if name)}),
        policies=policies,
        nothing="nothing" in request.query_params,
        undo=undoable(request.query_params.get("undo")),
    )


@router.post("/next")
async def claim_next(
    request: Request, gateway: GatewayDep, who: Reviewer, form: FormDep
) -> Response:
    """One at a time: claims the first that nobody else has, and shows it."""
    flt = QueueFilter.of(dict(request.query_params))
    return await next_item(gateway, who, flt, after=form.get("after", 64) or None)


def undoable(told: str | None) -> str | None:
    """A decision's id out of an address, which anybody may have written: it becomes the path of a
    form with this session's token in it."""
    return told if told is not None and re.fullmatch(DECISION_ID, told) else None


async def next_item(
    gateway: Gateway,
    who: Visitor,
    flt: QueueFilter,
    *,
    after: str | None = None,
    undo: str | None = None,
) -> Response:
    """Leads to the next item of a reviewer. undo: the decision that was made just now."""
    account = who.account
    wanted = partial(reviews.claim_next, after=after)
    row = await in_thread(wanted, gateway.db, account.tenant, account.id, flt.stored())
    asked = "&".join(part for part in (flt.query, f"undo={undo}" if undo else "") if part)
    if row is None:
        return pages.see(f"/queue?{asked}&nothing=1" if asked else "/queue?nothing=1")
    return pages.see(f"/items/{row.item_id}?{asked}" if asked else f"/items/{row.item_id}")


@router.post("/views")
async def save_view(request: Request, gateway: GatewayDep, who: Viewer, form: FormDep) -> Response:
    """Keeps a filter by name, or forgets it."""
    name, query = form.get("name", 40), QueueFilter.of(dict(request.query_params)).query
    if not name:
        raise InputError("A view needs a name.")
    kept = Preferences.of(who.account.preferences)
    others = tuple(view for view in kept.views if view[0] != name)
    views = others if form.get("forget") else (*others, (name, query))
    if len(views) > MAX_VIEWS:
        raise InputError(f"There are {MAX_VIEWS} views already: forget one first.")
    changed = kept.model_copy(update={"views": views})
    await in_thread(accounts.prefer, gateway.db, who.account.id, changed.model_dump(mode="json"))
    return pages.see(f"/queue?{query}" if query else "/queue")


def _read(
    gateway: Gateway, who: Visitor, flt: QueueFilter, after: str | None
) -> tuple[QueuePage, list[Card], QueueCounts]:
    db, account = gateway.db, who.account
    page = reviews.queue(db, account.tenant, flt.stored(), limit=PAGE, after=after)
    counts = reviews.counts(db, account.tenant, account.id)
    known = items.by_ids(db, account.tenant, [row.item_id for row in page.rows])
    names = names_of(db, account.tenant)
    now = datetime.now(UTC)
    cards = [
        card(row, known[row.item_id], who, names, now)
        for row in page.rows
        if row.item_id in known  # deleted just now
    ]
    return page, cards, counts
