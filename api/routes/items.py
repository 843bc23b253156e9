"""Submissions and their verdicts."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter
from starlette.responses import Response

from api.auth import ReadKey, WriteKey
from api.deleting import delete_item as delete_item_of
from api.deps import Gateway, GatewayDep, in_thread
from api.schemas import examples, params
from api.schemas.answers import Item, ItemDetail, ItemPage
from api.schemas.problems import KEYED, problems
from moderation.store import fingerprints, items
from moderation.store.records import ItemFilter, JobState
from moderation.types import Decision, Status

router = APIRouter(prefix="/v1/items", tags=["items"])

DEFAULT_LIMIT = 50


@router.get(
    "",
    summary="List items",
    response_model=None,
    responses={200: examples.page(), **problems(*KEYED)},
)
async def list_items(
    gateway: GatewayDep,
    key: ReadKey,
    decision: Decision | None = None,
    status: Status | None = None,
    state: JobState | None = None,
    label: params.Label = None,
    data_id: params.DataId = None,
    source: params.Source = None,
    stream_id: params.OfStream = None,
    since: params.Moment = None,
    until: params.Moment = None,
    limit: params.Limit = DEFAULT_LIMIT,
    cursor: params.Cursor = None,
) -> Response:
    """Newest first, in a stable order. All filters that are given must hold; `since` and
    `until` speak of the time of submission."""
    flt = ItemFilter(
        decision=decision,
        status=status,
        state=state,
        label=label,
        data_id=data_id,
        source=source,
        stream_id=stream_id,
        since=since,
        until=until,
    )
    page = await in_thread(
        items.list_items, gateway.db, key.tenant, flt, limit=limit, cursor=cursor
    )
    told = ItemPage(items=[Item.of(row) for row in page.items], next_cursor=page.next_cursor)
    return Response(told.model_dump_json(), media_type="application/json")


@router.get(
    "/{item_id}",
    summary="One item",
    response_model=None,
    responses={200: examples.item(), **problems(*KEYED, 404)},
)
async def get_item(gateway: GatewayDep, key: ReadKey, item_id: params.ItemId) -> Response:
    """The verdict in force, all that came before it, and copies of the same video."""
    told = await in_thread(_detail, gateway, key.tenant, item_id)
    return Response(told.model_dump_json(), media_type="application/json")


@router.delete(
    "/{item_id}",
    summary="Delete an item",
    status_code=204,
    response_model=None,
    responses={204: {"description": "It is gone"}, **problems(*KEYED, 404, 409)},
)
async def delete_item(gateway: GatewayDep, key: WriteKey, item_id: params.ItemId) -> Response:
    """With its jobs, verdicts, scores and pictures, and with the uploaded bytes where no other
    item has the same. 409 (`job_running`) while it is being analysed: cancel the job first. The
    audit keeps who deleted what, and when."""
    await in_thread(partial(delete_item_of, actor=key.id), gateway, key.tenant, item_id)
    return Response(status_code=204)


def _detail(gateway: Gateway, tenant: str, item_id: str) -> ItemDetail:
    row = items.get_item(gateway.db, tenant, item_id)
    return ItemDetail.of_detail(
        row,
        items.history(gateway.db, tenant, item_id),
        fingerprints.similar(gateway.db, tenant, row.media_id),
    )
