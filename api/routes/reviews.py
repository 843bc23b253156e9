"""What needs a person: the queue, claims, decisions and their undoing."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel
from starlette.responses import Response

from api import bodies
from api.auth import AdminKey, ReadKey, ReviewKey
from api.deps import GatewayDep, in_thread
from api.exporting import export
from api.reviewing import announced
from api.schemas import params
from api.schemas import reviews as shapes
from api.schemas.problems import KEYED, problems
from api.schemas.reviews import (
    After,
    DecisionBody,
    DecisionId,
    Decisions,
    Kind,
    Made,
    MadeNow,
    PolicyRef,
    Review,
    ReviewCounts,
    ReviewPage,
    Score,
    Sha256,
)
from api.submitting import as_json
from moderation.store import decisions, items, reviews
from moderation.store.labelled import Wanted
from moderation.store.review_records import Action, ReviewFilter, ReviewState
from moderation.types import Decision

router = APIRouter(prefix="/v1/reviews", tags=["reviews"])

DEFAULT_LIMIT = 50


def asked(
    state: ReviewState | None = ReviewState.OPEN,
    decision: Decision | None = None,
    label: params.Label = None,
    source: params.Source = None,
    data_id: params.DataId = None,
    stream_id: params.OfStream = None,
    policy_ref: PolicyRef = None,
    kind: Kind = None,
    sha256: Sha256 = None,
    since: params.Moment = None,
    until: params.Moment = None,
    min_score: Score = None,
    max_score: Score = None,
    escalated: bool | None = None,
    audit: bool | None = None,
) -> ReviewFilter:
    """The filter that a request names; all parts must hold."""
    bounded = min_score is not None or max_score is not None
    return ReviewFilter(
        state=state,
        decision=decision,
        label=label,
        source=source,
        data_id=data_id,
        stream_id=stream_id,
        policy=policy_ref,
        kind=kind,
        sha256=sha256,
        since=since,
        until=until,
        scores=(min_score or 0.0, 1.0 if max_score is None else max_score) if bounded else None,
        escalated=escalated,
        audit=audit,
    )


Filter = Annotated[ReviewFilter, Depends(asked)]


@router.get(
    "",
    summary="The queue",
    response_model=None,
    responses={200: shapes.page(), **problems(*KEYED, 404)},
)
async def list_reviews(
    gateway: GatewayDep,
    key: ReadKey,
    flt: Filter,
    limit: params.Limit = DEFAULT_LIMIT,
    after: After = None,
) -> Response:
    """In the order in which people should look: urgent ones first, then by age, where what is
    likely to be bad counts as older; passes that were drawn for an audit come last.
    `state=decided` lists what people have done."""
    found = await in_thread(reviews.queue, gateway.db, key.tenant, flt, limit=limit, after=after)
    rows = [Review.of(row) for row in found.rows]
    return _json(ReviewPage(reviews=rows, next_after=found.next_after))


@router.get(
    "/counts",
    summary="How much waits",
    response_model=None,
    responses={200: shapes.counts(), **problems(*KEYED)},
)
async def count_reviews(gateway: GatewayDep, key: ReadKey) -> Response:
    """By label, with the time of the oldest."""
    found = await in_thread(reviews.counts, gateway.db, key.tenant, key.id)
    return _json(ReviewCounts.of(found))


@router.get(
    "/export",
    summary="Decisions as a labelled set",
    response_model=None,
    responses={200: shapes.export(), **problems(*KEYED)},
)
async def export_decisions(
    gateway: GatewayDep,
    key: AdminKey,
    since: params.Moment = None,
    until: params.Moment = None,
    action: shapes.DecidedAs = None,
    label: shapes.SaidOf = None,
) -> Response:
    """One JSON object a line: the last decision of each item, by time, with what the models said
    before it. `since` and `until` speak of the decision. The media are to be had at `still` and
    `film` by the same key. Needs the scope `admin`."""
    wanted = Wanted(since, until, None if action is None else Action(action), label)
    return await export(gateway, key.tenant, key.id, wanted)


@router.post(
    "/next",
    summary="Claim the next item",
    response_model=None,
    responses={
        200: shapes.review("It is yours for five minutes"),
        204: {"description": "Nothing waits"},
        **problems(*KEYED, 404),
    },
)
async def claim_next(
    gateway: GatewayDep, key: ReviewKey, flt: Filter, after: After = None
) -> Response:
    """The first that nobody else has; behind `after`, which was skipped."""
    row = await in_thread(reviews.claim_next, gateway.db, key.tenant, key.id, flt, after=after)
    return Response(status_code=204) if row is None else _json(Review.of(row))


@router.put(
    "/{item_id}/claim",
    summary="Claim an item",
    response_model=None,
    responses={200: shapes.review("It is yours"), **problems(*KEYED, 404, 409)},
)
async def claim_item(gateway: GatewayDep, key: ReviewKey, item_id: params.ItemId) -> Response:
    """For five minutes from now on. 409 (`claimed`) where somebody else has it."""
    row = await in_thread(reviews.claim, gateway.db, key.tenant, key.id, item_id)
    return _json(Review.of(row))


@router.delete(
    "/{item_id}/claim",
    summary="Give an item back",
    status_code=204,
    response_model=None,
    responses={204: {"description": "It is not yours any more"}, **problems(*KEYED, 404)},
)
async def release_item(gateway: GatewayDep, key: ReviewKey, item_id: params.ItemId) -> Response:
    """Nothing happens where it was not yours."""
    await in_thread(reviews.release, gateway.db, key.tenant, key.id, item_id)
    return Response(status_code=204)


@router.get(
    "/{item_id}/decisions",
    summary="What people decided of an item",
    response_model=None,
    responses={200: shapes.made(), **problems(*KEYED, 404)},
)
async def list_decisions(gateway: GatewayDep, key: ReadKey, item_id: params.ItemId) -> Response:
    """Undone ones too."""
    await in_thread(items.get_item, gateway.db, key.tenant, item_id)
    rows = await in_thread(decisions.of_item, gateway.db, key.tenant, item_id)
    return _json(Decisions(decisions=[Made.of(row) for row in rows]))


@router.post(
    "/{item_id}/decision",
    summary="Decide an item",
    response_model=None,
    responses={200: shapes.decided(), **problems(*KEYED, 404, 408, 409, 413, 415)},
    openapi_extra=shapes.body(),
)
async def decide_item(
    request: Request, gateway: GatewayDep, key: ReviewKey, item_id: params.ItemId
) -> Response:
    """A new verdict (`decided_by: "person"`), sent to the item's callback as `item.decided`; it
    outranks the models for the same bytes from now on. `escalate` leaves the verdict, and puts the
    item to the top of the queue. 409 (`claimed`) where somebody else has it."""
    body = await bodies.only_json(request, DecisionBody)
    done = await in_thread(decisions.decide, gateway.db, key.tenant, key.id, item_id, body.choice())
    await in_thread(announced, gateway, item_id)
    return _json(MadeNow.of(done))


@router.delete(
    "/decisions/{decision_id}",
    summary="Take a decision back",
    status_code=204,
    response_model=None,
    responses={204: {"description": "The verdict before holds"}, **problems(*KEYED, 404, 409)},
)
async def undo_decision(gateway: GatewayDep, key: ReviewKey, decision_id: DecisionId) -> Response:
    """Within a minute, by the one who made it: the verdict before it is in force again, and sent to
    the callback."""
    item_id = await in_thread(decisions.undo, gateway.db, key.tenant, key.id, decision_id)
    await in_thread(announced, gateway, item_id)
    return Response(status_code=204)


def _json(told: BaseModel) -> Response:
    return as_json(told.model_dump_json())
