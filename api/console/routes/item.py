"""One item: what there is to see, why it was flagged, what was decided; and deciding it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.console import links, pages, views
from api.console.access import Admin, FormDep, Lead, Reviewer, Viewer, Visitor
from api.console.choices import choice_of, labels_for
from api.console.filters import QueueFilter
from api.console.names import names_of
from api.console.pages import ConsoleRoute
from api.console.routes.lists import banks_of, put_on_list
from api.console.routes.queue import next_item, undoable
from api.console.views import Bar, Look
from api.deleting import delete_item
from api.deps import Gateway, GatewayDep, in_thread
from api.reviewing import announced
from api.schemas.params import ItemId
from api.schemas.reviews import DecisionId
from moderation.errors import InputError, NotFoundError
from moderation.policy import Policy
from moderation.store import audits, decisions, evidence, fingerprints, items, reviews
from moderation.store.fingerprints import SimilarItem
from moderation.store.records import ItemRow
from moderation.store.review_records import DecisionRow, ReviewRow, ReviewState
from moderation.types import Verdict

router = APIRouter(route_class=ConsoleRoute)


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the page of an item shows. entry: in the queue; None: it never needed a person.
    mine: the visitor has claimed it; holder: somebody else has, by name."""

    item: ItemRow
    look: Look
    policy: Policy
    bars: list[Bar]
    history: list[Verdict]
    decisions: list[DecisionRow]
    similar: tuple[SimilarItem, ...]
    entry: ReviewRow | None
    mine: bool
    holder: str | None
    names: dict[str, str]


@router.get("/items/{item_id}")
async def item_page(
    request: Request, gateway: GatewayDep, who: Viewer, item_id: ItemId
) -> Response:
    query = dict(request.query_params)
    undo = undoable(query.pop("undo", None))
    flt = QueueFilter.of(query)
    facts = await in_thread(_facts, gateway, who, item_id)
    await in_thread(
        audits.note, gateway.db, who.account.tenant, who.account.id, "item.view", item_id
    )
    answer = pages.render(
        request,
        "item.html",
        who,
        facts=facts,
        flt=flt,
        undo=undo,
        labels=labels_for(facts.item.verdict),
        banks=await in_thread(banks_of, gateway, who),
        listed="listed" in request.query_params,
        exposed=await in_thread(_exposure, gateway, who),
    )
    if request.headers.get("hx-request") == "true":
        answer.headers["HX-Push-Url"] = f"{request.url.path}?{request.url.query}".rstrip("?")
    return answer


@router.post("/items/{item_id}/claim")
async def claim(request: Request, gateway: GatewayDep, who: Reviewer, item_id: ItemId) -> Response:
    await in_thread(reviews.claim, gateway.db, who.account.tenant, who.account.id, item_id)
    return _back(request, item_id)


@router.post("/items/{item_id}/take-over")
async def take_over(request: Request, gateway: GatewayDep, who: Lead, item_id: ItemId) -> Response:
    """From whoever has it now."""
    call = partial(reviews.claim, take_over=True)
    await in_thread(call, gateway.db, who.account.tenant, who.account.id, item_id)
    return _back(request, item_id)


@router.post("/items/{item_id}/release")
async def release(
    request: Request, gateway: GatewayDep, who: Reviewer, item_id: ItemId
) -> Response:
    await in_thread(reviews.release, gateway.db, who.account.tenant, who.account.id, item_id)
    flt = QueueFilter.of(dict(request.query_params))
    return pages.see(f"/queue?{flt.query}" if flt.query else "/queue")


@router.post("/items/{item_id}/skip")
async def skip(request: Request, gateway: GatewayDep, who: Reviewer, item_id: ItemId) -> Response:
    """Gives it back, and goes on behind it."""
    await in_thread(reviews.release, gateway.db, who.account.tenant, who.account.id, item_id)
    flt = QueueFilter.of(dict(request.query_params))
    return await next_item(gateway, who, flt, after=item_id)


@router.post("/items/{item_id}/ahead")
async def ahead(request: Request, gateway: GatewayDep, who: Reviewer, item_id: ItemId) -> Response:
    """Claims the item behind this one, and tells what a browser may load of it meanwhile."""
    flt, account = QueueFilter.of(dict(request.query_params)), who.account
    call = partial(reviews.claim_next, after=item_id)
    row = await in_thread(call, gateway.db, account.tenant, account.id, flt.stored())
    if row is None or row.item_id == item_id:
        return Response(status_code=204)
    coming = await in_thread(items.get_item, gateway.db, account.tenant, row.item_id)
    stem = views.worst_frame(coming)
    pictures = [links.media(who, coming.id, f"{stem}{end}.webp") for end in ("-blur", "")]
    return pages.render(request, "ahead.html", who, pictures=pictures)


@router.post("/items/{item_id}/reveal")
async def reveal(gateway: GatewayDep, who: Viewer, item_id: ItemId) -> Response:
    """Somebody lifts the veil: that is counted, for their own sake, and kept in the audit."""
    account = who.account
    await in_thread(items.get_item, gateway.db, account.tenant, item_id)
    await in_thread(audits.note, gateway.db, account.tenant, account.id, audits.REVEAL, item_id)
    return Response(status_code=204)


@router.post("/items/{item_id}/decision")
async def decide(
    request: Request, gateway: GatewayDep, who: Reviewer, item_id: ItemId, form: FormDep
) -> Response:
    """Decides it, and goes on with the next one."""
    account = who.account
    choice = choice_of(form)
    if form.get("bank", 64):
        # First: what cannot be listed is told while the item is still at hand.
        await in_thread(put_on_list, gateway, who, item_id, form)
    done = await in_thread(
        decisions.decide, gateway.db, account.tenant, account.id, item_id, choice
    )
    await in_thread(announced, gateway, item_id)
    flt = QueueFilter.of(dict(request.query_params))
    return await next_item(gateway, who, flt, undo=done.decision.id)


@router.post("/items/{item_id}/delete")
async def delete(gateway: GatewayDep, who: Admin, item_id: ItemId, form: FormDep) -> Response:
    """With its bytes, where no other item has them; the audit keeps that it was done."""
    if form.get("sure") != "1":
        raise InputError("Say that you are sure: it cannot be undone.")
    call = partial(delete_item, actor=who.account.id)
    await in_thread(call, gateway, who.account.tenant, item_id)
    return pages.see("/queue")


@router.post("/decisions/{decision_id}/undo")
async def undo(
    request: Request, gateway: GatewayDep, who: Reviewer, decision_id: DecisionId
) -> Response:
    """The item is open again, and the visitor's."""
    account = who.account
    item_id = await in_thread(decisions.undo, gateway.db, account.tenant, account.id, decision_id)
    await in_thread(announced, gateway, item_id)
    return _back(request, item_id)


def _facts(gateway: Gateway, who: Visitor, item_id: str) -> Facts:
    db, account = gateway.db, who.account
    item = items.get_item(db, account.tenant, item_id)
    shown = evidence.shown(db, account.tenant, item_id)
    if item.verdict is None:
        raise NotFoundError("This item is still being analysed.")
    packed = evidence.scores_of(db, shown) if item.kind != "image" else ()
    entry = reviews.get(db, account.tenant, item_id)
    names = dict(names_of(db, account.tenant))
    held = (
        entry is not None
        and entry.state is ReviewState.OPEN
        and entry.claim_until is not None
        and entry.claim_until > datetime.now(UTC)
    )
    holder = entry.claimed_by if held and entry is not None else None
    return Facts(
        item=item,
        look=views.look(who, item, shown, packed),
        policy=shown.policy,
        bars=views.bars(item.verdict, shown.policy),
        history=items.history(db, account.tenant, item_id),
        decisions=decisions.of_item(db, account.tenant, item_id),
        similar=fingerprints.similar(db, account.tenant, item.media_id),
        entry=entry,
        mine=holder == account.id,
        holder=None if holder in (None, account.id) else names.get(holder, holder),
        names=names,
    )


def _exposure(gateway: Gateway, who: Visitor) -> int:
    """Items that the visitor has looked at without the veil today (UTC)."""
    day = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return audits.exposure(gateway.db, who.account.tenant, who.account.id, since=day)


def _back(request: Request, item_id: str) -> Response:
    flt = QueueFilter.of(dict(request.query_params))
    return pages.see(f"/items/{item_id}?{flt.query}" if flt.query else f"/items/{item_id}")
