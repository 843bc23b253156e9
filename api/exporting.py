"""Decisions of people as a labelled set, one JSON object a line: for the API and the console."""

from __future__ import annotations

import itertools

from starlette.responses import Response, StreamingResponse

from api.deps import Gateway, in_thread
from api.schemas.reviews import LINES, Example
from moderation.store import audits
from moderation.store.labelled import Wanted, labelled


async def export(
    gateway: Gateway,
    tenant: str,
    actor: str,
    wanted: Wanted,
    headers: dict[str, str] | None = None,
) -> Response:
    """What is wanted, read while it is sent; noted in the audit before. Raises StoreError."""
    rows = labelled(gateway.db, tenant, wanted)
    first = await in_thread(next, rows, None)  # an error is told while it can be
    whole = itertools.chain([] if first is None else [first], rows)
    lines = (Example.of(row).model_dump_json() + "\n" for row in whole)
    await in_thread(
        audits.note,
        gateway.db,
        tenant,
        actor,
        "review.export",
        tenant,
        detail=described(wanted),
    )
    return StreamingResponse(lines, headers=headers, media_type=LINES)


def described(wanted: Wanted) -> dict[str, str]:
    """What was asked for, for the audit."""
    told = {
        "since": None if wanted.since is None else wanted.since.isoformat(),
        "until": None if wanted.until is None else wanted.until.isoformat(),
        "action": None if wanted.action is None else wanted.action.value,
        "label": wanted.label,
    }
    return {name: value for name, value in told.items() if value is not None}
