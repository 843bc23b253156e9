"""Who did, or saw, what."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from api.auth import AdminKey
from api.deps import GatewayDep, in_thread
from api.schemas import audit as shapes
from api.schemas import params
from api.schemas.audit import Act, AuditPage
from api.schemas.problems import KEYED, problems
from api.submitting import as_json
from moderation.store import audits

router = APIRouter(prefix="/v1/audit", tags=["audit"])

DEFAULT_LIMIT = 50
Words = Annotated[str | None, Query(min_length=1, max_length=128, pattern=params.TEXT)]

Action = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=128,
        pattern=params.TEXT,
        description="the whole of it, or its beginning, as `item.`",
    ),
]


@router.get(
    "",
    summary="The audit",
    response_model=None,
    responses={200: shapes.page(), **problems(*KEYED)},
)
async def list_audit(
    gateway: GatewayDep,
    key: AdminKey,
    actor: Words = None,
    action: Action = None,
    target: Words = None,
    limit: params.Limit = DEFAULT_LIMIT,
    before: Annotated[int | None, Query(ge=1, le=2**62, description="`next_before`")] = None,
) -> Response:
    """Newest first. Kept when what it tells of is deleted. Needs the scope `admin`."""
    rows = await in_thread(
        audits.page,
        gateway.db,
        key.tenant,
        actor=actor,
        action=action,
        target=target,
        before=before,
        limit=limit + 1,
    )
    shown = rows[:limit]
    told = AuditPage(
        acts=[Act.of(row) for row in shown],
        next_before=shown[-1].id if len(rows) > limit else None,
    )
    return as_json(told.model_dump_json())
